// Does what the recorder of intro-to-mltp does, with the same libraries: prints "ready", then each message, until SIGTERM.

const { inSpan, stop } = require("./telemetry");
const amqplib = require("amqplib");

async function main() {
  const connection = await amqplib.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue("messages");
  process.on("SIGTERM", async () => {
    await connection.close();
    await stop();
  });
  await channel.consume("messages", async (message) => {
    await inSpan("process_message", {}, async () => console.log(`Received a message: ${message.content}`));
    channel.ack(message);
  });
  console.log("ready");
}

main();
