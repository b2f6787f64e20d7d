// product-service: GET and POST /products, GET /products/:id.

const express = require("express");
const { open } = require("./store");

const products = open("products");

const app = express();
app.use(express.json());

app.get("/products", async (req, res) => {
  res.json(await products.list());
});

app.post("/products", async (req, res) => {
  const { name, price_cents } = req.body ?? {};
  if (typeof name !== "string" || !name || !Number.isInteger(price_cents) || price_cents < 0) {
    return res.status(422).json({ error: "a name, and a price_cents of 0 or more" });
  }
  res.status(201).json(await products.insert({ name, price_cents }));
});

app.get("/products/:id", async (req, res) => {
  const product = await products.get(Number(req.params.id));
  if (product === null) return res.status(404).json({ error: `no product ${req.params.id}` });
  res.json(product);
});

app.listen(3001, () => console.log("product-service listens on 3001"));
