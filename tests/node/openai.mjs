// The official client in JavaScript cannot tell us from OpenAI.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0 });
const hello = [{ role: "user", content: "Say pong" }];
const chat = (body = {}) => client.chat.completions.create({ model: "gpt-4o", messages: hello, ...body });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a chat completion has text and usage", async () => {
  const answer = await chat({ max_tokens: 50 });
  assert.equal(answer.object, "chat.completion");
  assert.match(answer.choices[0].message.content, /pong/i);
  assert.equal(answer.choices[0].message.refusal, null);
  assert.equal(answer.choices[0].finish_reason, "stop");
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(completion_tokens > 0);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test("the request id is where the client looks for it", async () => {
  const { data, response, request_id } = await chat().withResponse();
  assert.match(request_id, /^req_[0-9a-f]{32}$/);
  assert.equal(response.headers.get("x-request-id"), request_id);
  assert.equal(data._request_id, request_id);
  assert.equal(response.headers.get("openai-version"), "2020-10-01");
});

test("a stream has OpenAI's grammar, and usage only when asked", async () => {
  const plain = await collect(await chat({ stream: true }));
  assert.equal(plain[0].choices[0].delta.role, "assistant");
  assert.ok(plain.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.choices.length === 1));
  assert.ok(plain.every((chunk) => !chunk.usage));
  assert.equal(new Set(plain.map((chunk) => chunk.id)).size, 1);
  assert.equal(plain.at(-1).choices[0].finish_reason, "stop");

  const asked = await collect(await chat({ stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(asked.at(-1).choices, []);
  assert.ok(asked.at(-1).usage.completion_tokens > 0);
  assert.ok(asked.slice(0, -1).every((chunk) => chunk.usage === null));
});

test("a stream and a whole answer say and cost the same", async () => {
  const whole = await chat();
  const stream = client.chat.completions.stream({
    model: "gpt-4o",
    messages: hello,
    stream_options: { include_usage: true },
  });
  const deltas = [];
  stream.on("content", (delta) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  assert.ok(deltas.length > 0);
  assert.equal(deltas.join(""), whole.choices[0].message.content);
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.deepEqual(final.usage, whole.usage);
});

test("a caller may leave a stream in the middle", async () => {
  const stream = await chat({ messages: [{ role: "user", content: "Count to 50" }], stream: true });
  let seen = 0;
  for await (const _ of stream) if (++seen === 2) break;
  assert.equal(seen, 2);
  assert.ok((await chat()).choices[0].message.content);
});

test("a stream can be turned into lines and back", async () => {
  const lines = (await chat({ stream: true })).toReadableStream();
  const { ChatCompletionStream } = await import("openai/lib/ChatCompletionStream");
  const message = await ChatCompletionStream.fromReadableStream(lines).finalMessage();
  assert.match(message.content, /pong/i);
});

test("n answers are told apart, whole and streamed", async () => {
  const whole = await chat({ n: 2 });
  assert.deepEqual(
    whole.choices.map((choice) => choice.index),
    [0, 1],
  );
  const chunks = await collect(await chat({ n: 2, stream: true }));
  const indexes = new Set(chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.index)));
  assert.deepEqual([...indexes].sort(), [0, 1]);
});

const weather = zodFunction({
  name: "get_weather",
  parameters: z.object({ city: z.string() }),
  function: ({ city }) => `21 degrees in ${city}`,
});
const question = [{ role: "user", content: "What is the weather in Paris?" }];

test("tools are called with arguments from the prompt, whole and streamed", async () => {
  const whole = await client.chat.completions.parse({ model: "gpt-4o", messages: question, tools: [weather] });
  const [call] = whole.choices[0].message.tool_calls;
  assert.equal(whole.choices[0].finish_reason, "tool_calls");
  assert.deepEqual(call.function.parsed_arguments, { city: "Paris" });

  const stream = client.chat.completions.stream({ model: "gpt-4o", messages: question, tools: [weather] });
  const streamed = (await stream.finalMessage()).tool_calls[0];
  assert.match(streamed.id, /^call_/);
  assert.deepEqual(streamed.function.parsed_arguments, { city: "Paris" });
});

test("runTools comes to an end by itself", async () => {
  const runner = client.chat.completions.runTools({ model: "gpt-4o", messages: question, tools: [weather] });
  assert.ok(await runner.finalContent());
  assert.equal(await runner.finalFunctionToolCallResult(), "21 degrees in Paris");
  assert.deepEqual(
    runner.messages.map((message) => message.role),
    ["user", "assistant", "tool", "assistant"],
  );
});

test("structured output fits the schema", async () => {
  const person = z.object({ name: z.string(), age: z.number().int() });
  const answer = await client.chat.completions.parse({
    model: "gpt-4o",
    messages: [{ role: "user", content: "Ada is 36 years old." }],
    response_format: zodResponseFormat(person, "person"),
  });
  assert.ok(person.parse(answer.choices[0].message.parsed));
});

test("max_tokens is honoured, also where the model knows it by another name", async () => {
  const long = [{ role: "user", content: "Count to 50" }];
  const short = await chat({ messages: long, max_tokens: 3 });
  assert.equal(short.choices[0].finish_reason, "length");
  assert.equal(short.usage.completion_tokens, 3);
  const { data, response } = await chat({ model: "gpt-5", max_tokens: 100 }).withResponse();
  assert.ok(data.usage.completion_tokens <= 100);
  assert.equal(response.headers.get("x-headgate-renamed"), "max_tokens=max_completion_tokens");
});

test("completions, whole and streamed", async () => {
  const asked = { model: "gpt-3.5-turbo-instruct", prompt: "Say hi", max_tokens: 9 };
  const whole = await client.completions.create(asked);
  assert.equal(whole.object, "text_completion");
  assert.ok(whole.choices[0].text);
  const chunks = await collect(await client.completions.create({ ...asked, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
});

test("embeddings of each kind of input, as numbers and as base64", async () => {
  const embed = (body) => client.embeddings.create({ model: "text-embedding-3-small", ...body });
  const [coded, plain] = await Promise.all([
    embed({ input: "hello" }), // the client asks for base64 by itself and decodes it
    embed({ input: "hello", encoding_format: "float" }),
  ]);
  assert.equal(coded.data[0].embedding.length, 1536);
  coded.data[0].embedding.forEach((x, i) => assert.ok(Math.abs(x - plain.data[0].embedding[i]) < 1e-6));
  const raw = await embed({ input: "hello", encoding_format: "base64" });
  assert.equal(Buffer.from(raw.data[0].embedding, "base64").length, 4 * 1536);
  const many = await embed({ input: ["a", "b"], dimensions: 256 });
  assert.deepEqual(
    many.data.map((row) => [row.index, row.embedding.length]),
    [
      [0, 256],
      [1, 256],
    ],
  );
  assert.equal((await embed({ input: [15339, 1917] })).usage.prompt_tokens, 2);
  assert.equal((await embed({ input: [[15339], [1917]] })).data.length, 2);
});

test("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("gpt-4o"));
  assert.equal((await client.models.retrieve("gpt-4o")).object, "model");
  await assert.rejects(client.models.retrieve("gpt-4oo"), OpenAI.NotFoundError);
});

for (const [what, body, kind, status, code] of [
  ["an unknown model", { model: "gpt-4oo" }, OpenAI.NotFoundError, 404, "model_not_found"],
  ["a number out of range", { temperature: 3 }, OpenAI.BadRequestError, 400, "decimal_above_max_value"],
  ["a wrong type", { temperature: "hot" }, OpenAI.BadRequestError, 400, "invalid_type"],
  ["no messages", { messages: [] }, OpenAI.BadRequestError, 400, "empty_array"],
  ["an unknown member", { foo: 1 }, OpenAI.BadRequestError, 400, "unknown_parameter"],
  ["a limit", { model: "sim-429" }, OpenAI.RateLimitError, 429, "rate_limit_exceeded"],
  ["a failure", { model: "sim-500" }, OpenAI.InternalServerError, 500, null],
]) {
  for (const stream of [false, true]) {
    test(`${what} is OpenAI's error (stream: ${stream})`, async () => {
      await assert.rejects(chat({ ...body, stream }), (error) => {
        assert.ok(error instanceof kind, String(error));
        assert.equal(error.status, status);
        assert.equal(error.code, code);
        assert.ok(error.error.message && error.type);
        assert.match(error.requestID, /^req_/);
        return true;
      });
    });
  }
}

test("a wrong key is refused and not repeated", async () => {
  const wrong = client.withOptions({ apiKey: "sk-proj-abcdefghijklmnop" });
  await assert.rejects(wrong.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    assert.ok(!error.message.includes("abcdefghij"));
    return true;
  });
});
