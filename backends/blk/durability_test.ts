import { assert, assertEquals } from "@std/assert";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { VIRTIO_BLK_F_FLUSH } from "./protocol.ts";
import { skipRest } from "../../tests/support/skip.ts";

/** The system calls on the image and the answers, in their order. */
async function traceOf(features: bigint): Promise<string[] | string> {
  using directory = TemporaryDirectory.make("trace");
  const file = directory.file("trace");
  const calls = "trace=pwrite64,pwritev,fallocate,fdatasync,write";
  const child = new URL("./testing/durability_child.ts", import.meta.url);
  let error: string;
  try {
    const { code, stderr } = await new Deno.Command("strace", {
      args: [
        ...["-f", "-qq", "-y", "-o", file, "-e", calls],
        ...["-e", "signal=none"],
        ...[Deno.execPath(), "run", "-A", child.pathname, `${features}`],
      ],
      stdout: "null",
    }).output();
    if (code === 0) return relevantCalls(Deno.readTextFileSync(file));
    error = new TextDecoder().decode(stderr).trim();
  } catch (cause) {
    error = String(cause);
  }
  assert(/NotFound|ptrace|PTRACE/.test(error), error);
  return error;
}

function relevantCalls(trace: string): string[] {
  const seen: string[] = [];
  for (const line of trace.split("\n")) {
    const call = /(pwrite64|pwritev|fallocate|fdatasync)\(\d+<[^>]*disk\.img/
      .exec(
        line,
      );
    const answer = /write\(\d+<[^>]*>, "answered (\w+)/.exec(line);
    if (call !== null) seen.push(call[1]);
    else if (answer !== null) seen.push(`${answer[1]} answered`);
  }
  return seen;
}

for (
  const [name, bits, expected] of [
    ["a driver that cannot flush", [VIRTIO_F_VERSION_1], [
      "pwrite64",
      "fdatasync",
      "write answered",
      "fallocate",
      "fdatasync",
      "zeroes answered",
      "fdatasync",
      "flush answered",
    ]],
    ["a driver that flushes", [VIRTIO_F_VERSION_1, VIRTIO_BLK_F_FLUSH], [
      "pwrite64",
      "write answered",
      "fallocate",
      "zeroes answered",
      "fdatasync",
      "flush answered",
    ]],
  ] as const
) {
  Deno.test(`BlkDevice calls fdatasync before it answers ${name}`, async (t) => {
    const seen = await traceOf(featureMask(...bits));
    if (typeof seen === "string") {
      return await skipRest(
        t,
        "trace",
        `system calls cannot be traced here (${seen})`,
      );
    }
    // The first call looks whether holes can be punched.
    assertEquals(seen, ["fallocate", ...expected]);
  });
}
