"""Started by path. Its own folder leaves `sys.path` at once: a service may have a module called `loading` too."""

import sys


def _run() -> int:
    import importlib
    import importlib.util
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]
    name = "_shoal_runner"  # not `shoal.runner`: the service may have shoal itself among its packages
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    status: int = importlib.import_module(name + ".main").main(sys.argv[1:])
    return status


# A process that the service makes with multiprocessing's "spawn" runs this file again under another name.
if __name__ == "__main__":
    sys.exit(_run())
