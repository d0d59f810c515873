// Tracing as the services of intro-to-mltp set it up: spans leave one by one, over OTLP by gRPC.

const api = require("@opentelemetry/api");
const { NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");
const { SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-grpc");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { registerInstrumentations } = require("@opentelemetry/instrumentation");
const { AmqplibInstrumentation } = require("@opentelemetry/instrumentation-amqplib");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
const { PgInstrumentation } = require("@opentelemetry/instrumentation-pg");

const { PEER_NAME, TRACING_COLLECTOR_HOST, TRACING_COLLECTOR_PORT } = process.env;
const exporter = new OTLPTraceExporter({ url: `http://${TRACING_COLLECTOR_HOST}:${TRACING_COLLECTOR_PORT}` });
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": PEER_NAME }),
  spanProcessors: [new SimpleSpanProcessor(exporter)],
});
provider.register();
// Before the libraries that they change are loaded.
registerInstrumentations({ instrumentations: [new AmqplibInstrumentation(), new HttpInstrumentation(), new PgInstrumentation()] });

/** Run `work` in a new active span, which ends with it. */
const inSpan = (name, options, work) => api.trace.getTracer(PEER_NAME).startActiveSpan(name, options, async (span) => {
  try {
    return await work(span);
  } finally {
    span.end();
  }
});

module.exports = { api, inSpan, stop: () => provider.shutdown() };
