import OpenAI from "openai";

const client = new OpenAI();
const messages = [{ role: "user", content: "Say hello" }];
const answer = await client.chat.completions.create({ model: "gpt-4o-mini", messages });
console.log(answer.choices[0].message.content, answer.usage.total_tokens);

const stream = await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true });
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
console.log();
