"""Public fakes and test tools: the in-memory engine and store, virtual time, app builders."""
