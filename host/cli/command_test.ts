import { assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../error.ts";
import { type CommandSpec, parseCommand } from "./command.ts";

const SPEC: CommandSpec = {
  name: "cmd",
  summary: "Does things",
  usage: ["[A] [B] [OPTION]…"],
  flags: [
    { name: "dev", type: "string", repeatable: true, value: "KEYS", help: "" },
    { name: "log-level", type: "choice", choices: ["a", "b"], help: "" },
    { name: "fd", type: "integer", minimum: 3, default: 5, help: "" },
    { name: "read-only", type: "flag", help: "" },
  ],
  maximumArguments: 2,
};

function parse(...args: string[]) {
  const { help, values, lists, arguments: words } = parseCommand(SPEC, args);
  return { help, values, dev: lists.get("dev"), words };
}

Deno.test("parseCommand() reads flags, lists and arguments in any order", () => {
  assertEquals(parse(), { help: false, values: {}, dev: [], words: [] });
  assertEquals(
    parse("x", "--dev=a=1,b", "--fd", "7", "--read-only", "y", "--dev", "c=,,"),
    {
      help: false,
      values: { fd: 7, readOnly: true },
      dev: ["a=1,b", "c=,,"],
      words: ["x", "y"],
    },
  );
});

Deno.test("parseCommand() keeps arguments as they are written", () => {
  assertEquals(parse("1e3", "007").words, ["1e3", "007"]);
  assertEquals(parse("--", "--fd", "-x").words, ["--fd", "-x"]);
});

Deno.test("parseCommand() checks nothing else where help is wanted", () => {
  for (const flag of ["--help", "-h"]) {
    assertEquals(parse("--nonsense", flag, "a", "b", "c").help, true);
  }
});

Deno.test("parseCommand() says what is wrong", () => {
  const cases: [string[], string][] = [
    [["a", "b", "c"], '"c" is one argument too many: cmd [A] [B] [OPTION]…'],
    [["--dve=1"], 'there is no option --dve (did you mean "--dev"?)'],
    [
      ["--readonly"],
      'there is no option --readonly (did you mean "--read-only"?)',
    ],
    [
      ["-x"],
      "there is no option -x; options are --dev, --log-level, --fd, --read-only, --help",
    ],
    [["--dev"], "--dev needs a value: --dev=KEYS"],
    [["--dev", "--fd=3"], "--dev needs a value: --dev=KEYS"],
    [["--fd"], "--fd needs a value: --fd=N"],
    [["--fd=2"], '"fd=2" is no integer of 3 or more'],
    [["--fd=3", "--fd=4"], '"fd" is given twice'],
    [["--log-level=c"], '"log-level=c" is none of a, b'],
    [["--log-level"], "--log-level needs a value: --log-level=a|b"],
  ];
  for (const [args, expected] of cases) {
    const error = assertThrows(() => parse(...args), HostError);
    assertEquals([error.kind, error.message], ["usage", `cmd: ${expected}`]);
  }
});
