import OpenAI from "openai";

const asked = { model: "headgate-lexical", input: "I want to kill them." };
const { results } = await new OpenAI().moderations.create(asked);
console.log(results[0].flagged, results[0].categories.violence);
