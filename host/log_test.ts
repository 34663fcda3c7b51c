import { assertEquals, assertMatch } from "@std/assert";
import { type LogFormat, Logger, type LogLevel } from "./log.ts";

function record(
  level: LogLevel,
  format: LogFormat,
): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  return { log: new Logger({ level, format, write }), lines };
}

/** The line without its time. */
function body(line: string): string {
  return line.slice(line.indexOf(" ") + 1);
}

Deno.test("Logger writes text lines with time, level, message and fields", () => {
  const { log, lines } = record("info", "text");
  log.info("Serving", {
    device: "blk",
    size: 512,
    path: "a b",
    none: undefined,
  });
  assertMatch(lines[0], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info {2}/);
  assertEquals(
    body(lines[0]),
    'info  Serving device=blk size=512 path="a b"\n',
  );
});

Deno.test("Logger writes one JSON object a line", () => {
  const { log, lines } = record("info", "json");
  log.error("Failed", {
    features: 0x30000000n,
    error: new Error("why"),
    level: "mine",
  });
  const { time, ...rest } = JSON.parse(lines[0]);
  assertMatch(time, /Z$/);
  assertEquals(rest, {
    level: "error",
    message: "Failed",
    features: "0x30000000",
    error: "why",
    level_: "mine",
  });
});

Deno.test("Logger drops lines below its level", () => {
  const { log, lines } = record("warn", "text");
  log.debug("a");
  log.info("b");
  log.warn("c");
  log.error("d");
  assertEquals(lines.map(body), ["warn  c\n", "error d\n"]);
});

Deno.test("Logger keeps an event on one line whatever it says", () => {
  const text = record("info", "text");
  text.log.info("a\nb\x1b[31m\u2028c\u202e", {
    serial: "x\r\ny",
    list: ["\u009b"],
  });
  assertEquals(
    body(text.lines[0]),
    'info  a\\u{a}b\\u{1b}[31m\\u{2028}c\\u{202e} serial="x\\r\\ny" list=["\\u{9b}"]\n',
  );
  const json = record("info", "json");
  json.log.info("a\nb");
  assertEquals(json.lines[0].split("\n").length, 2);
});

Deno.test("Logger.child() adds fields and keeps level, format and target", () => {
  const { log, lines } = record("warn", "text");
  const child = log.child({ device: "blk" }).child({ ring: 1 });
  child.info("a");
  child.warn("b", { ring: 2 });
  assertEquals(lines.map(body), ["warn  b device=blk ring=2\n"]);
});

Deno.test("Logger writes bigint and error fields in text", () => {
  const { log, lines } = record("debug", "text");
  log.debug("x", { features: 255n, error: new Error("not now") });
  assertEquals(body(lines[0]), 'debug x features=0xff error="not now"\n');
});

Deno.test("Logger writes to stderr and survives a closed one", async () => {
  const url = new URL("./log.ts", import.meta.url).href;
  const script = `const { Logger } = await import(${JSON.stringify(url)});
    const log = new Logger(); log.info("first"); Deno.stderr.close();
    log.info("second"); console.log("alive");`;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", script],
  }).output();
  const decoder = new TextDecoder();
  assertEquals(code, 0);
  assertEquals(decoder.decode(stdout), "alive\n");
  assertMatch(decoder.decode(stderr), /info {2}first\n$/);
});
