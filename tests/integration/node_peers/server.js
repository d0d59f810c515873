// Does what the server of intro-to-mltp does, with the same libraries: prints "ready" when it listens; until SIGTERM.

const { stop } = require("./telemetry");
const http = require("http");
const { Client } = require("pg");

const BEASTS = ["unicorn", "manticore", "illithid", "owlbear", "beholder"];
const env = process.env;
const database = new Client({
  host: env.MYTHICAL_DATABASE_HOST, port: Number(env.MYTHICAL_DATABASE_HOST_PORT), database: env.MYTHICAL_DATABASE_NAME,
  user: env.MYTHICAL_DATABASE_USER, password: env.MYTHICAL_DATABASE_PASSWORD,
});

async function respond(request) {
  const beast = request.url.slice(1);
  if (!BEASTS.includes(beast)) return [404, `${beast} is not a valid endpoint`];
  let text = "";
  for await (const piece of request) text += piece;
  if (request.method === "GET") return [200, JSON.stringify((await database.query(`SELECT name from ${beast}`)).rows)];
  const statement = { POST: `INSERT INTO ${beast}(name) VALUES ($1)`, DELETE: `DELETE FROM ${beast} WHERE name = $1` };
  await database.query(statement[request.method], [JSON.parse(text).name]);
  return request.method === "POST" ? [201, "Created"] : [204, ""];
}

async function main() {
  await database.connect();
  for (const beast of BEASTS) {
    await database.query(`CREATE TABLE IF NOT EXISTS ${beast}(id serial PRIMARY KEY, name VARCHAR (50) UNIQUE NOT NULL);`);
  }
  const server = http.createServer(async (request, response) => {
    const [status, body] = await respond(request).catch((fault) => [500, String(fault)]);
    response.writeHead(status, { "Content-Type": status === 200 ? "application/json; charset=utf-8" : "text/plain" }).end(body);
  });
  server.listen(Number(env.HTTP_PORT), "127.0.0.1", () => console.log("ready"));
  process.on("SIGTERM", async () => {
    server.close();
    server.closeAllConnections();
    await database.end();
    await stop();
  });
}

main();
