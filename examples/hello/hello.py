"""One plain Flask service: `GET /hello`."""

from flask import Flask

app = Flask(__name__)


@app.get("/hello")
def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


if __name__ == "__main__":  # `python hello.py` works too; Shoal serves `app` itself and never comes here
    app.run(port=8080)
