// Does what the requester of intro-to-mltp does, with the same libraries, three times for each beast; then ends.
// Prints a line of JSON for each request: method, beast, status, traceId.

const { api, inSpan, stop } = require("./telemetry");
const amqplib = require("amqplib");
const axios = require("axios");

const { AMQP_URL, LOGS_TARGET, MYTHICAL_SERVER_HOST_PORT, NAMESPACE, PEER_NAME } = process.env;

async function main() {
  const connection = await amqplib.connect(AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue("messages");
  let previous;
  for (const beast of ["unicorn", "manticore", "illithid", "owlbear", "beholder"]) {
    const name = `${PEER_NAME} ${beast}`;
    for (const method of ["POST", "GET", "DELETE"]) {
      const links = previous ? [{ context: previous }] : [];
      await inSpan("requester", { kind: api.SpanKind.CLIENT, links, attributes: { beast } }, async (span) => {
        previous = span.spanContext();
        const { status } = await axios({
          method, url: `http://${MYTHICAL_SERVER_HOST_PORT}/${beast}`, validateStatus: () => true,
          data: method === "GET" ? undefined : { name },
        });
        const text = { GET: `GET /${beast}`, POST: `POST /${beast} ${JSON.stringify({ name })}`, DELETE: `DELETE /${beast} ${name}` };
        await inSpan("publish_to_queue", {}, async () => channel.sendToQueue("messages", Buffer.from(text[method])));
        const message = `traceID=${previous.traceId} http.method=${method} endpoint=${beast} status=SUCCESS`;
        const stream = { service_name: PEER_NAME, level: "info", job: PEER_NAME, namespace: NAMESPACE, beast };
        await axios.post(LOGS_TARGET, { streams: [{ stream, values: [[`${Date.now() * 1000000}`, message]] }] });
        console.log(JSON.stringify({ method, beast, status, traceId: previous.traceId }));
      });
    }
  }
  await channel.close();
  await connection.close();
  await stop();
}

main();
