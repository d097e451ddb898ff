import OpenAI from "openai";

const asked = { model: "gpt-3.5-turbo-instruct", prompt: "Say hello", max_tokens: 20 };
const answer = await new OpenAI().completions.create(asked);
console.log(answer.choices[0].text, answer.usage.total_tokens);
