import { assert, assertEquals, assertMatch } from "@std/assert";
import { findProgram } from "../../sys/environment.ts";
import { setCloexec } from "../../sys/fd.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { runCommand } from "../../tests/support/process.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { waitUntil } from "../../tests/support/deadline.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { ROOT, startVhostd, vhostd } from "./testing/vhostd.ts";

const WRAPPER = `${ROOT}host/cli/vhostd-blk`;
const RO = 1n << 5n;

function directoryWithImage(): TemporaryDirectory {
  const directory = TemporaryDirectory.make("blk");
  Deno.writeFileSync(directory.file("a.img"), new Uint8Array(1 << 16));
  return directory;
}

Deno.test("blk prints its capabilities and ignores all else", async () => {
  const { code, stdout, stderr } = await vhostd(
    ["blk", "--nonsense", "--print-capabilities", "--fd=x"],
  );
  assertEquals([code, stderr], [0, ""]);
  assertEquals(JSON.parse(stdout), {
    type: "block",
    features: ["read-only", "blk-file"],
  });
});

Deno.test("blk describes a program that keeps the conventions", async () => {
  const { stdout } = await vhostd(["blk", "--print-json"]);
  const { binary, ...rest } = JSON.parse(stdout);
  assertEquals(rest, { description: "vhostd vhost-user-blk", type: "block" });
  assertEquals(binary, WRAPPER);
  const other = await vhostd(["blk", "--print-json", "--binary=/usr/x"]);
  assertEquals(JSON.parse(other.stdout).binary, "/usr/x");

  using directory = TemporaryDirectory.make("blk");
  const link = directory.file("vhost-user-blk");
  Deno.symlinkSync(binary, link);
  const result = await runCommand(link, {
    args: ["--print-capabilities"],
    env: { DENO: Deno.execPath() },
    cwd: directory.path,
  });
  assertEquals(JSON.parse(result.stdout).type, "block");
});

for (const type of ["blk", "net", "scsi", "balloon"]) {
  Deno.test(`the program of ${type} runs where npx is, without a runtime on PATH`, async () => {
    using directory = TemporaryDirectory.make("program");
    // All that is on PATH, but for the runtime.
    for (
      const name of ["sh", "bash", "dirname", "readlink", "npx", "node", "env"]
    ) {
      const path = findProgram(name);
      if (path !== null) Deno.symlinkSync(path, directory.file(name));
    }
    const { stdout } = await runCommand(`${ROOT}host/cli/vhostd-${type}`, {
      args: ["--print-capabilities"],
      clearEnv: true,
      env: { PATH: directory.path, HOME: Deno.env.get("HOME")! },
      timeout: 60_000,
    });
    const { type: told } = JSON.parse(stdout);
    assertEquals(told, type === "blk" ? "block" : type);
  });
}

Deno.test("blk serves --socket-path, and ends on SIGTERM", async () => {
  using directory = directoryWithImage();
  const socket = directory.file("s.sock");
  for (const readOnly of [false, true]) {
    const args = ["blk", `--socket-path=${socket}`, "--blk-file=a.img"];
    if (readOnly) args.push("--read-only");
    await using child = startVhostd(args, { cwd: directory.path });
    await waitUntil(() => isSocket(socket) || child.ended, { what: socket });
    const frontEnd = FrontEnd.connect(socket);
    await frontEnd.handshake();
    assertEquals((frontEnd.features & RO) !== 0n, readOnly);
    child.signal("SIGTERM");
    assertEquals((await child.wait(20_000)).code, 0, child.stderr.text);
    frontEnd.close();
    assertEquals([isSocket(socket), child.stdout.text], [false, ""]);
  }
});

Deno.test("blk serves an inherited socket that listens", async () => {
  using directory = directoryWithImage();
  const socket = directory.file("s.sock");
  using listener = UnixListener.listen(socket);
  setCloexec(listener.fd, false);
  await using child = startVhostd(
    ["blk", `--fd=${listener.fd}`, "--blk-file=a.img"],
    { cwd: directory.path },
  );
  setCloexec(listener.fd, true);
  for (let i = 0; i < 2; i++) {
    const frontEnd = FrontEnd.connect(socket);
    await frontEnd.handshake();
    frontEnd.close();
  }
  assertEquals((await child.stop()).code, 0, child.stderr.text);
  assert(isSocket(socket), "the file of an inherited socket is not ours");
});

Deno.test("blk serves an inherited connection, and ends with it", async () => {
  using directory = directoryWithImage();
  const [ours, theirs] = UnixSocket.pair();
  setCloexec(theirs.fd, false);
  await using child = startVhostd(
    ["blk", `--fd=${theirs.fd}`, "--blk-file=a.img"],
    { cwd: directory.path },
  );
  theirs.close();
  const frontEnd = FrontEnd.connect(ours);
  await frontEnd.handshake();
  frontEnd.close();
  assertEquals((await child.wait(20_000)).code, 0, child.stderr.text);
});

Deno.test("blk fails early with code 1 and one line", async () => {
  using directory = directoryWithImage();
  const cwd = directory.path;
  const absent = await vhostd(
    ["blk", "--socket-path=s.sock", "--blk-file=absent.img"],
    { cwd },
  );
  assertEquals(absent.code, 1);
  assertMatch(absent.stderr, /^vhostd: Cannot serve "absent.img": .+\n$/);
  const noSocket = await vhostd(["blk", "--fd=99", "--blk-file=a.img"], {
    cwd,
  });
  assertEquals(noSocket.code, 1);
  assertMatch(noSocket.stderr, /^vhostd: .*fd 99.*\n$/);
});

function isSocket(path: string): boolean {
  try {
    return Deno.lstatSync(path).isSocket === true;
  } catch {
    return false;
  }
}
