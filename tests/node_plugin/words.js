#!/usr/bin/env node
// A tool plugin in Node: counts the words and sentences of a text in any language. From the .proto alone.
//
//   plugins:
//     tool_providers:
//       words: {path: "./words.js", config: {token: "${WORDS_TOKEN}"}}
//
// A host passes `config` in variables: WORDS_TOKEN, WORDS_PORT (0 picks a free one), WORDS_PROTO (the folder of the
// .proto).

"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");
const { ReflectionService } = require("@grpc/reflection");
const { HealthImplementation } = require("grpc-health-check");

const TOKEN = process.env.WORDS_TOKEN || "";
const PORT = process.env.WORDS_PORT || "0";
const PROTO = process.env.WORDS_PROTO || path.join(__dirname, "..", "..", "proto");
const LARGEST_TEXT = 1_000_000; // characters
const LARGEST_REQUEST = 64 * 1024 * 1024; // bytes

const PARAMETERS = {
  type: "object",
  properties: {
    text: { type: "string", maxLength: LARGEST_TEXT, description: "The text to count in." },
    language: { type: "string", default: "en", description: "Its language, as a BCP 47 tag." },
  },
  required: ["text"],
  additionalProperties: false,
};
const RESULT = {
  type: "object",
  properties: { words: { type: "integer" }, sentences: { type: "integer" } },
  required: ["words", "sentences"],
};
const TOOL = {
  name: "count_words",
  description: "Counts the words and the sentences of a text, in any language.",
  parameters_json: JSON.stringify(PARAMETERS),
  output_schema_json: JSON.stringify(RESULT),
  read_only: true,
  idempotent: true,
};

function count(text, language) {
  const parts = (granularity) => [...new Intl.Segmenter(language, { granularity }).segment(text)];
  return {
    words: parts("word").filter((part) => part.isWordLike).length,
    sentences: parts("sentence").filter((part) => part.segment.trim()).length,
  };
}

// A failure that the caller, or the model behind it, can act on: part of the reply.
function failure(code, error) {
  return { success: false, error, status: { code, message: error } };
}

function execute(request) {
  if (request.tool !== TOOL.name) {
    return failure(grpc.status.NOT_FOUND, `Unknown tool: ${request.tool}`);
  }
  let args;
  try {
    args = request.parameters_json ? JSON.parse(request.parameters_json) : plain(request.parameters);
  } catch {
    return failure(grpc.status.INVALID_ARGUMENT, "parameters_json is no JSON; send an object with `text`");
  }
  const wrong = mistakes(args);
  if (wrong.length) {
    return failure(grpc.status.INVALID_ARGUMENT, `${TOOL.name}: ${wrong.join("; ")}`);
  }
  const counted = count(args.text, args.language || "en");
  return {
    success: true,
    result: `${counted.words} words, ${counted.sentences} sentences`,
    structured_json: JSON.stringify(counted),
    content_type: "text/plain",
  };
}

// What is wrong with the arguments, every field at fault.
function mistakes(args) {
  if (args === null || typeof args !== "object" || Array.isArray(args)) {
    return ["the arguments must be an object with `text`"];
  }
  const wrong = Object.keys(args)
    .filter((name) => !(name in PARAMETERS.properties))
    .map((name) => `there is no argument ${name.slice(0, 60)}`);
  if (typeof args.text !== "string" || args.text.length > LARGEST_TEXT) {
    wrong.push(`text must be a text of at most ${LARGEST_TEXT} characters`);
  }
  if ("language" in args && !isLanguage(args.language)) {
    wrong.push("language must be a tag such as en or zh");
  }
  return wrong;
}

function isLanguage(tag) {
  try {
    return typeof tag === "string" && tag.length < 40 && Intl.getCanonicalLocales(tag).length === 1;
  } catch {
    return false;
  }
}

// A google.protobuf.Struct, as proto-loader gives it, as a plain object.
function plain(struct) {
  const fields = Object.entries(struct?.fields ?? {});
  return Object.fromEntries(fields.map(([name, value]) => [name, value[value.kind]]));
}

// Each call has to bring the token, where there is one.
function guarded(handler) {
  return (call, callback) => {
    if (TOKEN && call.metadata.get("authorization")[0] !== `Bearer ${TOKEN}`) {
      callback({ code: grpc.status.UNAUTHENTICATED, details: "send the plugin's token as `authorization: Bearer TOKEN`" });
      return;
    }
    callback(null, handler(call.request));
  };
}

function main() {
  const definition = protoLoader.loadSync("hector_plugins.proto", {
    includeDirs: [PROTO, __dirname],
    keepCase: true,
    oneofs: true,
    defaults: true,
  });
  const { ToolProvider } = grpc.loadPackageDefinition(definition).hector.plugins.v1;
  const server = new grpc.Server({ "grpc.max_receive_message_length": LARGEST_REQUEST });
  server.addService(ToolProvider.service, {
    ListTools: guarded(() => ({ tools: [TOOL] })),
    ExecuteTool: guarded(execute),
    GetToolSchema: guarded((request) =>
      request.tool === TOOL.name
        ? { success: true, schema_json: TOOL.parameters_json, output_schema_json: TOOL.output_schema_json }
        : failure(grpc.status.NOT_FOUND, `Unknown tool: ${request.tool}`),
    ),
  });
  const names = ["", "plugin", "hector.plugins.v1.ToolProvider"];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "SERVING"])));
  health.addToServer(server);
  // It names the service; its descriptors lack what the .proto imports, so calls by hand take the .proto.
  new ReflectionService(definition, { services: names.slice(2) }).addToServer(server);
  server.bindAsync(`127.0.0.1:${PORT}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) {
      console.error(`error: ${error.message}`);
      process.exit(2);
    }
    console.log(`listening on 127.0.0.1:${port}`); // the host dials what this line says
  });
  const stop = () => {
    names.forEach((name) => health.setStatus(name, "NOT_SERVING"));
    setTimeout(() => process.exit(0), 10_000); // a watch of health has no end of its own
    server.tryShutdown(() => process.exit(0));
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

main();
