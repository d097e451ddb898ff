import OpenAI from "openai";

const client = new OpenAI();
for await (const model of client.models.list()) console.log(model.id);
console.log((await client.models.retrieve("gpt-4o")).owned_by);
