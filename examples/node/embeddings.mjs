import OpenAI from "openai";

const client = new OpenAI();
const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: "hello" });
console.log(answer.data[0].embedding.length);
