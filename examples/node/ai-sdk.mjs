import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateText, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey] = [process.env.OPENAI_BASE_URL, process.env.OPENAI_API_KEY];
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "headgate", baseURL, apiKey, includeUsage: true });

console.log((await generateText({ model: openai.chat("gpt-4o"), prompt: "Say hi" })).text);
const stream = streamText({ model: compatible("gpt-4o"), prompt: "Say hi" });
for await (const text of stream.textStream) process.stdout.write(text);
console.log("", (await stream.usage).totalTokens);
const { steps } = await generateText({
  model: openai.chat("gpt-4o"),
  prompt: "What is the weather in Paris?",
  stopWhen: ({ steps }) => steps.length > 1,
  tools: {
    weather: tool({
      description: "Get the weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => ({ city, celsius: 21 }),
    }),
  },
});
console.log(steps.length);
const { embedding } = await embed({ model: openai.embedding("text-embedding-3-small"), value: "hello" });
console.log(embedding.length);
