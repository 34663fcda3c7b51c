import {
  AssertionError,
  assertIsError,
  assertRejects,
  assertThrows,
} from "@std/assert";
import nodeAssert from "node:assert/strict";

class DeviceError extends Error {}
class RingError extends Error {}
abstract class AbstractError extends Error {}
class ConcreteError extends AbstractError {}

function throwing(value: unknown): () => never {
  return () => {
    throw value;
  };
}

/** What is wrong when a text is not found in a message. */
const notIncluded =
  'Expected error message to include "full", but got "ring is empty".';
const otherClass =
  'Expected error to be instance of "DeviceError", but was "RingError".';

const failure = (message: string) => ({ name: "AssertionError", message });

Deno.test("assertIsError() accepts", () => {
  assertIsError(new RingError("ring is empty"));
  assertIsError(new RingError("ring is empty"), Error, "empty");
  assertIsError(new ConcreteError("failed"), AbstractError, /^fail/);
  assertIsError(new RingError("\x1b[31mring\x1b[39m is"), RingError, "ring is");
});

Deno.test("assertIsError() refuses", () => {
  const refuses = (message: string, ...args: unknown[]) => {
    const check = assertIsError as (...args: unknown[]) => void;
    nodeAssert.throws(() => check(...args), failure(message));
  };
  const error = new RingError("ring is empty");
  for (const value of ["text", null, undefined]) {
    refuses('Expected "error" to be an Error object.', value);
  }
  refuses(otherClass, error, DeviceError);
  refuses(
    otherClass.replace(/\.$/, ": words"),
    error,
    DeviceError,
    "ring",
    "words",
  );
  refuses(notIncluded, error, RingError, "full");
  refuses(notIncluded.replace('"full"', "/full/"), error, RingError, /full/);
  refuses(
    'Expected error message to include "no \\"b\\"", but got "a \\"b\\"".',
    new Error('a "b"'),
    Error,
    'no "b"',
  );
});

Deno.test("assertThrows() returns what was thrown", () => {
  for (const value of [new RingError("a"), "text", 1, null, undefined]) {
    nodeAssert.equal(assertThrows(throwing(value)), value);
  }
  const error: RingError = assertThrows(
    throwing(new RingError("ring is empty")),
    RingError,
    "empty",
  );
  nodeAssert.equal(error.message, "ring is empty");
  assertThrows(throwing(new ConcreteError("failed")), AbstractError, "fail");
});

Deno.test("assertThrows() fails", () => {
  const fails = (message: string, ...args: unknown[]) => {
    const check = assertThrows as (...args: unknown[]) => unknown;
    nodeAssert.throws(() => check(...args), failure(message));
  };
  const returning = () => {};
  fails("Expected function to throw.", returning);
  fails("Expected function to throw: words", returning, "words");
  fails("Expected function to throw: words", returning, Error, "", "words");
  fails("Expected function to throw: words", returning, null, "words");
  fails("A non-Error object was thrown.", throwing("text"), Error, "text");
  fails(otherClass, throwing(new RingError("a")), DeviceError);
  fails(notIncluded, throwing(new RingError("ring is empty")), Error, "full");
});

Deno.test("assertRejects() resolves to what was rejected", async () => {
  for (const value of [new RingError("a"), "text", null, undefined]) {
    const found = await assertRejects(() => Promise.reject(value));
    nodeAssert.equal(found, value);
  }
  const error: RingError = await assertRejects(
    () => Promise.reject(new RingError("ring is empty")),
    RingError,
    "empty",
  );
  nodeAssert.equal(error.message, "ring is empty");
  await assertRejects(
    () => Promise.reject(new ConcreteError("failed")),
    AbstractError,
    "fail",
  );
});

Deno.test("assertRejects() takes anything with a method then", async () => {
  const thenable = {
    then(): never {
      throw new RingError("ring is empty");
    },
  };
  await assertRejects(() => thenable, RingError, "empty");
});

Deno.test("assertRejects() fails", async () => {
  const fails = async (message: string, ...args: unknown[]) => {
    const check = assertRejects as (...args: unknown[]) => Promise<unknown>;
    await nodeAssert.rejects(() => check(...args), failure(message));
  };
  const fulfilled = () => Promise.resolve();
  await fails("Expected function to reject.", fulfilled);
  await fails("Expected function to reject: words", fulfilled, "words");
  const sync = "Function throws when expected to reject.";
  await fails(sync, throwing(new Error("a")));
  await fails(sync, () => {});
  await fails(
    "A non-Error object was rejected.",
    () => Promise.reject("text"),
    Error,
  );
  await fails(
    otherClass,
    () => Promise.reject(new RingError("a")),
    DeviceError,
  );
});

Deno.test("assertThrows() catches a failed assertion", () => {
  assertThrows(() => assertThrows(() => {}), AssertionError, "Expected");
});
