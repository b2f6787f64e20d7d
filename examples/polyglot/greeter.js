// greeter: `GET /greeting` on its own, `GET /hello` with the time, which it asks clock for. Nothing but Node itself.

const http = require("node:http");

async function answer(path) {
  if (path === "/greeting") return { greeting: "Good morning" };
  if (path === "/hello") {
    const asked = await fetch("http://clock:5000/time");
    if (!asked.ok) throw new Error(`clock answered ${asked.status}`);
    const { time } = await asked.json();
    return { message: `Hello, it is ${time}` };
  }
  return null;
}

const server = http.createServer(async (request, response) => {
  let status = 200;
  let body;
  try {
    body = await answer(new URL(request.url, "http://greeter").pathname);
    if (body === null) [status, body] = [404, { error: "not found" }];
  } catch (error) {
    [status, body] = [502, { error: `clock does not answer: ${error.message}` }];
  }
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
});

server.listen(process.env.PORT || 3000, "127.0.0.1");
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
