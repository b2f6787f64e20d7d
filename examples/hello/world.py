"""The other plain Flask service: `GET /world`."""

from flask import Flask

app = Flask(__name__)


@app.get("/world")
def world() -> dict[str, str]:
    return {"message": "Hello, World!"}


if __name__ == "__main__":  # `python world.py` works too; Shoal serves `app` itself and never comes here
    app.run(port=8081)
