import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { kernelVersion, requirePlatform } from "./platform.ts";
import { run, source } from "./testing/run.ts";

Deno.test("this platform is accepted, others are refused by name", () => {
  requirePlatform();
  const error = assertThrows(
    () => requirePlatform({ os: "linux", arch: "aarch64" }),
    SystemError,
    "Cannot run on linux aarch64: only linux x86_64 is supported",
  );
  assertEquals(error.kind, "EOPNOTSUPP");
  assertThrows(
    () => requirePlatform({ os: "freebsd", arch: "x86_64" }),
    SystemError,
    "freebsd x86_64",
  );
});

Deno.test("the kernel's release is what the runtime says", () => {
  const version = kernelVersion();
  assertEquals(version.release, Deno.osRelease());
  assert(version.release.startsWith(`${version.major}.${version.minor}`));
  assert(version.major >= 4);
});

Deno.test("no permission but --allow-ffi is needed", async () => {
  const directory = Deno.makeTempDirSync();
  try {
    const program = source(`
      import { drainEventFd, EventFd } from "./eventfd.ts";
      import { fdKind, openFdCount } from "./fd.ts";
      import { DataFile } from "./file.ts";
      import { mapFile, mappingCount } from "./mapping.ts";
      import { createMemfd } from "./memfd.ts";
      import { kernelVersion, requirePlatform } from "./platform.ts";
      import { groupId, raiseNofileLimit } from "./process.ts";
      import { readable } from "./reactor.ts";
      import { UnixListener, UnixSocket } from "./unix_socket.ts";
      requirePlatform();
      kernelVersion();
      raiseNofileLimit();
      groupId("root");
      using listener = UnixListener.listen(Deno.args[0] + "/s", { mode: 0o666 });
      using client = UnixSocket.connect(listener.path);
      await readable(listener.fd);
      using server = listener.tryAccept();
      using file = DataFile.open(Deno.args[0] + "/f", { create: true });
      using memfd = createMemfd("x", 4096);
      using mapping = mapFile(memfd.fd, { size: 4096 });
      console.log(fdKind(server.fd), openFdCount() > 5, mappingCount() > 5);
    `);
    const args = ["run", "--no-prompt", "--no-lock", "--allow-ffi", "-"];
    const outcome = await run(Deno.execPath(), [...args, directory], program);
    assertEquals(outcome.stdout, "socket true true\n", outcome.stderr);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
