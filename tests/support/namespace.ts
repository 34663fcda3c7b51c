/**
 * Tests in a user and network namespace of their own, where interfaces can be
 * made without any right outside.
 *
 * A test file runs itself once more, in the namespace: outside it has one test,
 * which does that; inside it has all the others.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  NAMESPACE_ARGUMENTS,
  namespaceReason,
} from "../../sys/testing/namespace.ts";
import { skipUnless } from "./skip.ts";

const VARIABLE = "VHOSTD_TEST_NAMESPACE";

/**
 * True inside of the namespace, where a file declares its tests. Outside it
 * declares the one test that runs them.
 *
 * @param file of the tests: `import.meta.url`
 */
export function inNamespace(name: string, file: string): boolean {
  if (Deno.env.get(VARIABLE) === "1") return true;
  const reason = namespaceReason();
  skipUnless(reason === null, reason ?? "").test(name, async () => {
    const command = new Deno.Command("unshare", {
      args: [
        ...NAMESPACE_ARGUMENTS,
        Deno.execPath(),
        ...["test", "--allow-all", "--no-check", new URL(file).pathname],
      ],
      env: { [VARIABLE]: "1", NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(480_000),
    });
    const { code, stdout, stderr } = await command.output();
    const decoder = new TextDecoder();
    const output = decoder.decode(stdout) + decoder.decode(stderr);
    assertEquals(code, 0, output);
    console.log(output);
  });
  return false;
}

/** Runs `ip`; what it prints. */
export function ip(...args: readonly string[]): string {
  const { success, stdout, stderr } = new Deno.Command("ip", {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).outputSync();
  const decoder = new TextDecoder();
  if (!success) {
    throw new Error(`ip ${args.join(" ")}: ${decoder.decode(stderr)}`);
  }
  return decoder.decode(stdout);
}
