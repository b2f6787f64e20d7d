// cart-service: POST /carts, GET and DELETE /carts/:id. It asks product-service, by its name, what a thing costs.

const express = require("express");
const { open } = require("./store");

const carts = open("carts");

const app = express();
app.use(express.json());

app.post("/carts", async (req, res) => {
  const { product_id, quantity = 1 } = req.body ?? {};
  if (!Number.isInteger(product_id) || !Number.isInteger(quantity) || quantity < 1) {
    return res.status(422).json({ error: "a product_id, and a quantity of 1 or more" });
  }
  let answer;
  try {
    answer = await fetch(`http://product-service:3001/products/${product_id}`);
  } catch (error) {
    return res.status(503).json({ error: `product-service does not answer: ${error.cause ?? error}` });
  }
  if (answer.status === 404) return res.status(404).json({ error: `no product ${product_id}` });
  if (!answer.ok) return res.status(502).json({ error: `product-service answered ${answer.status}` });
  const { name, price_cents } = await answer.json();
  res.status(201).json(await carts.insert({ product_id, quantity, name, total_cents: quantity * price_cents }));
});

app.get("/carts/:id", async (req, res) => {
  const cart = await carts.get(Number(req.params.id));
  if (cart === null) return res.status(404).json({ error: `no cart ${req.params.id}` });
  res.json(cart);
});

app.delete("/carts/:id", async (req, res) => {
  await carts.remove(Number(req.params.id));
  res.status(204).end();
});

app.listen(3002, () => console.log("cart-service listens on 3002"));
