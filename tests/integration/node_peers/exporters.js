// Sends one of each signal by each exporter of the Node SDK, lines by winston-loki, and profiles by Pyroscope's SDK.
// The service of each is PEER_NAME and the name of the way.

const { resourceFromAttributes } = require("@opentelemetry/resources");
const { LoggerProvider, SimpleLogRecordProcessor } = require("@opentelemetry/sdk-logs");
const { MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
const { NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");
const { SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");
const Pyroscope = require("@pyroscope/nodejs");
const winston = require("winston");
const LokiTransport = require("winston-loki");

const { PEER_NAME, OTLP_GRPC, OTLP_HTTP, LOKI, PYROSCOPE } = process.env;

async function byOtlp(protocol, compression) {
  const resource = resourceFromAttributes({ "service.name": `${PEER_NAME}-${protocol}-${compression}` });
  const exporter = (signal, name) => new (require(`@opentelemetry/exporter-${name}-otlp-${protocol}`)[signal])({
    compression, url: protocol === "grpc" ? OTLP_GRPC : `${OTLP_HTTP}/v1/${name === "trace" ? "traces" : name}`,
  });
  const spans = new NodeTracerProvider({ resource, spanProcessors: [new SimpleSpanProcessor(exporter("OTLPTraceExporter", "trace"))] });
  spans.getTracer("test").startSpan("span").end();
  const reader = new PeriodicExportingMetricReader({ exporter: exporter("OTLPMetricExporter", "metrics"), exportIntervalMillis: 60_000 });
  const metrics = new MeterProvider({ resource, readers: [reader] });
  metrics.getMeter("test").createCounter("counter").add(1);
  const logs = new LoggerProvider({ resource, processors: [new SimpleLogRecordProcessor(exporter("OTLPLogExporter", "logs"))] });
  logs.getLogger("test").emit({ body: { list: [1, "x", null] }, severityText: "INFO" });
  for (const provider of [spans, metrics, logs]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
}

async function byLoki(name, options) {
  const labels = { service_name: `${PEER_NAME}-loki-${name}` };
  const transport = new LokiTransport({ host: LOKI, labels, batching: false, timeout: 30_000, ...options });
  winston.createLogger({ transports: [transport] }).info(`a line in ${name}`);
  await transport.flush();
}

async function byPyroscope() {
  Pyroscope.init({ serverAddress: PYROSCOPE, appName: `${PEER_NAME}-profiled`, flushIntervalMs: 60_000, wall: { collectCpuTime: true } });
  Pyroscope.start();
  const end = Date.now() + 1000;
  while (Date.now() < end) Math.sqrt(end);
  await Pyroscope.stop();
}

async function main() {
  for (const protocol of ["grpc", "http", "proto"]) {
    for (const compression of ["none", "gzip"]) await byOtlp(protocol, compression);
  }
  await byLoki("json", { json: true });
  await byLoki("gzip", { json: true, gzip: true });
  await byLoki("protobuf", { json: false });
  await byPyroscope();
}

main();
