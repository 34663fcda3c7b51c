import { assert, assertEquals } from "@std/assert";
import { type OwnedFd, writeFd } from "../../sys/fd.ts";
import { Reactor } from "../../sys/reactor.ts";
import { createPipe } from "../../sys/spawn.ts";
import { waitUntil } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { OutputLines } from "./output_lines.ts";

function start(reactor: Reactor): {
  output: OutputLines;
  lines: string[];
  pipe: OwnedFd;
  print: (text: string) => void;
} {
  const lines: string[] = [];
  const [read, pipe] = createPipe();
  const output = new OutputLines(read, reactor, (line) => lines.push(line));
  const print = (text: string) =>
    writeFd(pipe.fd, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
  return { output, lines, pipe, print };
}

Deno.test("lines come as they are printed, empty ones not at all", async () => {
  using reactor = new Reactor();
  const { output, lines, pipe, print } = start(reactor);
  print("first\n\n  \nsec");
  await waitUntil(() => lines.length === 1, { what: "the first line" });
  print("ond\r\nthird é");
  await waitUntil(() => lines.length === 2, { what: "the second line" });
  assertEquals(lines, ["first", "second"]);
  pipe.close();
  output.finish();
  assertEquals(lines, ["first", "second", "third é"]);
  assertEquals(output.last, lines);
  output.finish();
  assertEquals(lines.length, 3);
});

Deno.test("what is left in the pipe is read at the end", () => {
  using reactor = new Reactor();
  const { output, lines, pipe, print } = start(reactor);
  const printed = Array.from({ length: 3000 }, (_, i) => `line ${i}`);
  print(printed.join("\n"));
  // Somebody else still has the other end: that is not waited for.
  output.finish();
  assertEquals(lines, printed);
  assertEquals(output.last, printed.slice(-100));
  pipe.close();
});

Deno.test("colours are left out, and long lines are cut", () => {
  using reactor = new Reactor();
  const { output, lines, pipe, print } = start(reactor);
  print(
    `\u001b[0m\u001b[1;31merror\u001b[0m: no\n${"x".repeat(60_000)}\nend\n`,
  );
  pipe.close();
  output.finish();
  assertEquals(lines[0], "error: no");
  assertEquals(lines[1], "x".repeat(2000));
  assertEquals(lines.at(-1), "end");
});

Deno.test("a pipe that ends is not watched any more", async () => {
  using reactor = new Reactor();
  const { pipe } = start(reactor);
  assertEquals(reactor.size, 1);
  pipe.close();
  await waitUntil(() => reactor.size === 0, { what: "the end of the watch" });
});

Deno.test("output leaks no descriptors", async () => {
  await assertNoLeaks(() => {
    using reactor = new Reactor();
    const { output, pipe, print } = start(reactor);
    print("x");
    output.finish();
    pipe.close();
    assert(pipe.closed);
  });
});
