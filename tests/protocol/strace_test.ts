import { assertEquals } from "@std/assert";
import { parseTrace } from "./strace.ts";

Deno.test("parseTrace() puts calls together that strace tore apart", () => {
  const trace = [
    '10 12:00:00.000001 write(3</tmp/a>, "x", 1) = 1',
    "11 12:00:00.000002 fdatasync(4</tmp/disk.img> <unfinished ...>",
    "10 12:00:00.000003 pwritev(5</tmp/b>, [], 0, 0) = -1 EIO (x) (INJECTED)",
    "11 12:00:00.000004 <... fdatasync resumed>) = 0",
    "12 12:00:00.000005 +++ exited with 0 +++",
    "",
  ].join("\n");
  assertEquals(parseTrace(trace), [
    { thread: 10, name: "write", args: '3</tmp/a>, "x", 1', result: "1" },
    {
      thread: 10,
      name: "pwritev",
      args: "5</tmp/b>, [], 0, 0",
      result: "-1 EIO (x) (INJECTED)",
    },
    {
      thread: 11,
      name: "fdatasync",
      args: "4</tmp/disk.img>",
      result: "0",
    },
  ]);
});
