// user-service: POST /register, POST /login, and GET /users/me for who holds a token.

const crypto = require("node:crypto");
const express = require("express");
const { open } = require("./store");

const users = open("users");
const sessions = open("sessions");
const HOUR_MS = 3600 * 1000;

const app = express();
app.use(express.json());

function hash(password, salt) {
  return crypto.scryptSync(password, salt, 32).toString("hex");
}

function credentials(body) {
  const { name, password } = body ?? {};
  return typeof name === "string" && name && typeof password === "string" && password.length >= 8;
}

app.post("/register", async (req, res) => {
  if (!credentials(req.body)) return res.status(422).json({ error: "a name, and a password of 8 characters or more" });
  const { name, password } = req.body;
  const salt = crypto.randomBytes(16).toString("hex");
  const user = await users.insert({ name, salt, password: hash(password, salt) }, name);
  if (user === null) return res.status(409).json({ error: `the name ${name} is taken` });
  res.status(201).json({ name });
});

app.post("/login", async (req, res) => {
  const user = credentials(req.body) ? await users.get(req.body.name) : null;
  if (user === null || hash(req.body.password, user.salt) !== user.password) {
    return res.status(401).json({ error: "wrong name or password" });
  }
  const token = crypto.randomBytes(24).toString("base64url");
  await sessions.insert({ name: user.name, until: Date.now() + HOUR_MS }, token);
  res.json({ token });
});

app.get("/users/me", async (req, res) => {
  const token = (req.get("authorization") ?? "").replace(/^Bearer /, "");
  const session = await sessions.get(token);
  if (session === null || session.until < Date.now()) return res.status(401).json({ error: "log in first" });
  res.json({ name: session.name });
});

app.listen(3000, () => console.log("user-service listens on 3000"));
