import { assertEquals, assertRejects } from "@std/assert";
import { waitUntil } from "../tests/support/deadline.ts";
import { HostError } from "./error.ts";
import { SharedQuestion } from "./shared_question.ts";

/** Somebody who answers when he is told to. */
function respondent() {
  const asked: PromiseWithResolvers<number>[] = [];
  const question = new SharedQuestion(() => {
    const answer = Promise.withResolvers<number>();
    asked.push(answer);
    return answer.promise;
  });
  return { asked, question };
}

Deno.test("who asks meanwhile gets the next answer, all the same one", async () => {
  const { asked, question } = respondent();
  const first = question.ask();
  const others = [question.ask(), question.ask(), question.ask(1e6)];
  assertEquals(asked.length, 1);
  asked[0].resolve(1);
  assertEquals(await first, 1);
  assertEquals(asked.length, 2);
  asked[1].resolve(2);
  assertEquals(await Promise.all(others), [2, 2, 2]);
  const later = question.ask();
  assertEquals(asked.length, 3);
  asked[2].resolve(3);
  assertEquals(await later, 3);
});

Deno.test("a refusal is for those who waited for it", async () => {
  const { asked, question } = respondent();
  const first = question.ask(), second = question.ask();
  asked[0].reject(new Error("no"));
  await assertRejects(() => first, Error, "no");
  asked[1].resolve(2);
  assertEquals(await second, 2);
  const throwing = new SharedQuestion<number>(() => {
    throw new Error("at once");
  });
  await assertRejects(() => throwing.ask(), Error, "at once");
  await assertRejects(() => throwing.ask(), Error, "at once");
});

Deno.test("who does not answer is asked once, however often he is waited for", async () => {
  const { asked, question } = respondent();
  for (let i = 0; i < 5; i++) {
    await assertRejects(() => question.ask(1), HostError, "No answer in 1 ms");
  }
  assertEquals(asked.length, 1);
  const patient = question.ask();
  asked[0].resolve(1);
  await waitUntil(() => asked.length > 1, { what: "the next question" });
  asked[1].resolve(2);
  assertEquals(await patient, 2);
  // Those who gave up are not asked for.
  assertEquals(asked.length, 2);
});
