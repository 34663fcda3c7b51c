import { assertEquals } from "@std/assert";
import { TerminalFilter } from "./terminal_filter.ts";

const CASES: ReadonlyArray<[string, string, string]> = [
  ["colours", "\u001b[1;31mred\u001b[0m", "red"],
  ["cursor position report request", "\u001b[6n# ", "# "],
  ["window title, ended by BEL", "\u001b]0;title\u0007text", "text"],
  ["window title, ended by ST", "\u001b]0;title\u001b\\text", "text"],
  ["character set", "\u001b(Btext", "text"],
  ["keypad mode", "\u001b=text\u001b>", "text"],
  ["line ends", "a\r\nb\r\n", "a\nb\n"],
  ["tabs stay", "a\tb", "a\tb"],
  ["backspace", "ab\bc", "ac"],
  ["NUL and BEL", "a\0\u0007b", "ab"],
  ["text beyond ASCII", "größe 🙂", "größe 🙂"],
];

for (const [name, raw, plain] of CASES) {
  Deno.test(`TerminalFilter: ${name}`, () => {
    assertEquals(new TerminalFilter().push(raw), plain);
  });
}

Deno.test("TerminalFilter: a sequence split at any place", () => {
  const raw = "x\u001b]0;t\u001b\\a\u001b[12;3mb\u001b(Bc";
  for (let cut = 0; cut <= raw.length; cut++) {
    const filter = new TerminalFilter();
    const plain = filter.push(raw.slice(0, cut)) + filter.push(raw.slice(cut));
    assertEquals(plain, "xabc", `cut at ${cut}`);
  }
});
