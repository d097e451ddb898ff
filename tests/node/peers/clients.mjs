// The clients in JavaScript reach models of several makers, with tools and streams. MODELS names the models.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0 });
const baseURL = process.env.OPENAI_BASE_URL;
const sdk = createOpenAICompatible({ name: "headgate", baseURL, apiKey: process.env.OPENAI_API_KEY, includeUsage: true });
const question = "Weather and time in NYC?";
const expected = [
  ["get_weather", { city: "NYC" }],
  ["get_time", { zone: "EST" }],
];
const functions = expected.map(([name, given]) => ({
  type: "function",
  function: {
    name,
    parameters: {
      type: "object",
      properties: Object.fromEntries(Object.keys(given).map((member) => [member, { type: "string" }])),
    },
  },
}));
const tools = {
  get_weather: tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "sunny" }),
  get_time: tool({ inputSchema: z.object({ zone: z.string() }), execute: async () => "noon" }),
};

for (const model of process.env.MODELS.split(",")) {
  test(`openai: ${model}: a stream`, async () => {
    const stream = client.chat.completions.stream({
      model,
      messages: [{ role: "user", content: "Say hello" }],
      stream_options: { include_usage: true },
    });
    const whole = await stream.finalChatCompletion();
    assert.match(whole.choices[0].message.content, /你好/);
    assert.equal(whole.usage.completion_tokens, 9);
  });

  test(`openai: ${model}: tools, whole and streamed, and the turn after them`, async () => {
    const messages = [{ role: "user", content: question }];
    const asked = { model, messages, tools: functions };
    const whole = await client.chat.completions.create(asked);
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    for (const { message, finish_reason } of [whole.choices[0], streamed.choices[0]]) {
      assert.equal(finish_reason, "tool_calls");
      const made = message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
      assert.deepEqual(made, expected);
      const results = message.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "sunny" }));
      const last = await client.chat.completions.create({ ...asked, messages: [...messages, message, ...results] });
      assert.equal(last.choices[0].message.content, "It is sunny.");
    }
  });

  test(`ai sdk: ${model}: tools and the step after them, whole and streamed`, async () => {
    const asked = { model: sdk.chatModel(model), prompt: question, tools, stopWhen: stepCountIs(3) };
    const streamed = streamText(asked);
    await streamed.consumeStream();
    for (const steps of [(await generateText(asked)).steps, await streamed.steps]) {
      assert.equal(steps.length, 2);
      assert.deepEqual(steps[0].toolCalls.map((call) => [call.toolName, call.input]), expected);
      assert.equal(steps[1].text, "It is sunny.");
    }
  });
}
