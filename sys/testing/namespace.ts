/**
 * Network namespaces for tests: a process in one of its own may make
 * interfaces without any right outside.
 *
 * @module
 */

/** Arguments of `unshare` before the program that is run in the namespace. */
export const NAMESPACE_ARGUMENTS: readonly string[] = [
  "--user",
  "--map-root-user",
  "--net",
];

/**
 * Why TAPs cannot be tested here, or `null` where they can: it takes a user and
 * a network namespace, `/dev/net/tun` and the program `ip`.
 */
export function namespaceReason(): string | null {
  try {
    const { success } = new Deno.Command("unshare", {
      args: [
        ...NAMESPACE_ARGUMENTS,
        ...["ip", "tuntap", "add", "probe0", "mode", "tap"],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).outputSync();
    return success
      ? null
      : "needs unshare, ip and /dev/net/tun in a namespace of its own";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "needs unshare(1)";
    throw error;
  }
}
