// The Vercel AI SDK works with us through both of its providers.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey] = [process.env.OPENAI_BASE_URL, process.env.OPENAI_API_KEY];
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({
  name: "headgate",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const weather = tool({
  description: "Get the weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ city, celsius: 21 }),
});

for (const [name, chat, embedding] of [
  ["openai", openai.chat, openai.embedding],
  ["compatible", compatible.chatModel, compatible.embeddingModel],
]) {
  const model = chat("gpt-4o");

  test(`${name}: text`, async () => {
    const { text, finishReason, usage } = await generateText({ model, prompt: "Say pong", maxOutputTokens: 50 });
    assert.match(text, /pong/i);
    assert.equal(finishReason, "stop");
    assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
  });

  test(`${name}: a stream`, async () => {
    const asked = { model, system: "Be brief.", prompt: "Say pong" };
    const result = streamText({ ...asked, onError: () => {} });
    const parts = [];
    for await (const part of result.textStream) parts.push(part);
    const whole = await generateText(asked);
    assert.equal(parts.join(""), whole.text);
    assert.equal(await result.finishReason, "stop");
    assert.equal((await result.usage).totalTokens, whole.usage.totalTokens);
  });

  test(`${name}: a tool and the step after it, whole and streamed`, async () => {
    const asked = {
      model,
      prompt: "What is the weather in Paris?",
      tools: { weather },
      stopWhen: stepCountIs(3),
    };
    const streamed = streamText(asked);
    await streamed.consumeStream();
    for (const steps of [(await generateText(asked)).steps, await streamed.steps]) {
      assert.equal(steps.length, 2);
      assert.deepEqual(steps[0].toolCalls[0].input, { city: "Paris" });
      assert.deepEqual(steps[0].toolResults[0].output, { city: "Paris", celsius: 21 });
      assert.ok(steps[1].text);
    }
  });

  test(`${name}: an object by its schema`, async () => {
    const schema = z.object({ name: z.string(), age: z.number() });
    const { output } = await generateText({
      model,
      output: Output.object({ schema }),
      prompt: "Ada is 36 years old.",
    });
    assert.ok(schema.parse(output));
  });

  test(`${name}: embeddings`, async () => {
    const { embedding: vector, usage } = await embed({ model: embedding("text-embedding-3-small"), value: "hello" });
    assert.equal(vector.length, 1536);
    assert.ok(usage.tokens > 0);
    const { embeddings } = await embedMany({
      model: embedding("text-embedding-3-large"),
      values: ["a", "b", "c"],
    });
    assert.deepEqual(
      embeddings.map((row) => row.length),
      [3072, 3072, 3072],
    );
  });

  for (const [wrong, status, retryable] of [
    ["gpt-4oo", 404, false],
    ["sim-429", 429, true],
    ["sim-500", 500, true],
  ]) {
    test(`${name}: ${wrong} is an error with our message`, async () => {
      const asked = { model: chat(wrong), prompt: "Say pong", maxRetries: 0 };
      const seen = [];
      const result = streamText({ ...asked, onError: ({ error }) => seen.push(error) });
      await result.consumeStream();
      await generateText(asked).catch((error) => seen.push(error));
      assert.equal(seen.length, 2);
      for (const error of seen) {
        assert.ok(APICallError.isInstance(error), String(error));
        assert.equal(error.statusCode, status);
        assert.equal(error.isRetryable, retryable);
        assert.equal(error.message, JSON.parse(error.responseBody).error.message);
      }
    });
  }
}
