import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { findProgram } from "../../sys/environment.ts";
import { UnixListener } from "../../sys/unix_socket.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { startVhostd, vhostd } from "./testing/vhostd.ts";

const READY = "Stop with Ctrl-C";
const LIMIT = 20_000;

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function makeImage(path: string, size: number): string {
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, size);
  return path;
}

Deno.test("serve makes and keeps an image, and stops cleanly", async () => {
  using directory = TemporaryDirectory.make("serve");
  const image = directory.file("vhostd-data/disk.img");
  const socket = directory.file("vhostd-data/blk.sock");
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    await using child = startVhostd(["serve"], { cwd: directory.path });
    await child.expect(READY, LIMIT, "stdout");
    const { size, blocks, mode } = Deno.statSync(image);
    assertEquals(size, 1024 ** 3);
    if (signal === "SIGTERM") assertEquals(blocks, 0);
    assertEquals(mode! & 0o022, 0);
    const passt = findProgram("passt") !== null;
    const data = directory.file("vhostd-data");
    assertEquals(
      child.stdout.text,
      `Serving "./vhostd-data/disk.img" (1 GiB) as "blk" on ./vhostd-data/blk.sock
Serving a network port of ${
        passt ? "passt" : 'the switch "lan0"'
      } as "net" on ./vhostd-data/net.sock
Serving a SCSI host with "./vhostd-data/scsi.img" as "scsi" on ./vhostd-data/scsi.sock
Serving a memory balloon as "balloon" on ./vhostd-data/balloon.sock

A virtual machine with it (-m and size= have to agree):

qemu-system-x86_64 \\
  -accel kvm \\
  -accel tcg \\
  -m 1G \\
  -object memory-backend-memfd,id=mem,size=1G,share=on \\
  -machine q35,memory-backend=mem \\
  -chardev socket,id=blk,path=${socket},reconnect-ms=500 \\
  -device vhost-user-blk-pci,chardev=blk,num-queues=1 \\
  -chardev socket,id=net,path=${data}/net.sock,reconnect-ms=500 \\
  -netdev vhost-user,id=net-net,chardev=net \\
  -device virtio-net-pci,netdev=net-net \\
  -chardev socket,id=scsi,path=${data}/scsi.sock,reconnect-ms=500 \\
  -device vhost-user-scsi-pci,chardev=scsi,num_queues=1 \\
  -chardev socket,id=balloon,path=${data}/balloon.sock \\
  -device vhost-user-test-device-pci,chardev=balloon,virtio-id=5,num_vqs=5,vq_size=128,config_size=16

The balloon needs QEMU 10.2 or later: leave its two lines out for an older one.
QEMU cannot connect to it again (no reconnect-ms there), and aborts without its
process, at the latest when the guest resets.

With reconnect-ms (QEMU 9.2 and later; reconnect=1 before) the virtual machine
survives a restart of this server. Stop with Ctrl-C.
`,
    );
    const frontEnd = FrontEnd.connect(socket);
    await frontEnd.handshake();
    assertEquals(Deno.lstatSync(socket).mode! & 0o777, 0o600);
    child.signal(signal);
    const { code, signal: killedBy } = await child.wait(LIMIT);
    frontEnd.close();
    assertEquals([code, killedBy], [0, null], child.stderr.text);
    assertEquals(
      [...Deno.readDirSync(directory.file("vhostd-data"))]
        .map(({ name }) => name).sort(),
      ["disk.img", "scsi.img"],
    );
    using file = Deno.openSync(image, { read: true, write: true });
    const start = new Uint8Array(4);
    file.readSync(start);
    assertEquals(start, new Uint8Array(4).fill(signal === "SIGTERM" ? 0 : 7));
    file.seekSync(0, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4).fill(7));
  }
});

Deno.test("serve takes an image, devices and a config file together", async () => {
  using directory = TemporaryDirectory.make("serve");
  for (const name of ["a", "b", "c"]) {
    makeImage(directory.file(`${name}.img`), 1 << 20);
  }
  Deno.writeTextFileSync(
    directory.file("c.json"),
    JSON.stringify({
      devices: [{ type: "blk", path: "c.img", id: "cfg", socket: "c.sock" }],
      management: "m.sock",
      "log-level": "debug",
    }),
  );
  const keys = "path=b.img,readonly,socket=b.sock,mode=0660,queues=2";
  await using child = startVhostd(
    ["serve", "a.img", "--blk", keys, "--config=c.json", "--log-level=warn"],
    { cwd: directory.path },
  );
  await child.expect(READY, LIMIT, "stdout");
  assertStringIncludes(
    child.stdout.text,
    `Serving "c.img" (1 MiB) as "cfg" on c.sock
Serving "a.img" (1 MiB) as "blk" on ./vhostd-data/blk.sock
Serving "b.img" (1 MiB, read-only) as "blk1" on b.sock
`,
  );
  assertEquals(Deno.lstatSync(directory.file("b.sock")).mode! & 0o777, 0o660);
  assert(exists(directory.file("m.sock")));
  const frontEnd = FrontEnd.connect(directory.file("b.sock"));
  await frontEnd.handshake();
  assertEquals(frontEnd.queueCount, 2);
  frontEnd.close();
  assertEquals((await child.stop()).code, 0);
  assertEquals(child.stderr.text, "", "the command line wins: warn");
  for (const name of ["b.sock", "c.sock", "m.sock"]) {
    assertEquals(exists(directory.file(name)), false, name);
  }
});

Deno.test("serve leaves nothing behind when a device cannot start", async () => {
  using directory = TemporaryDirectory.make("serve");
  makeImage(directory.file("good.img"), 1 << 20);
  makeImage(directory.file("odd.img"), 1000);
  Deno.writeTextFileSync(directory.file("qcow2.img"), "QFI\xfb".padEnd(4096));
  using _busy = UnixListener.listen(directory.file("busy.sock"));
  const cases: [string, RegExp][] = [
    ["path=absent.img", /^vhostd: Cannot serve "absent.img": .+\n$/],
    [
      "path=odd.img",
      /^vhostd: Cannot serve "odd.img": .*1000.* is not a multiple of 512.*\n$/,
    ],
    [
      "path=good.img,socket=busy.sock",
      /^vhostd: Cannot listen on "busy.sock": another server listens there already\n$/,
    ],
    [
      "path=good.img,socket=no/dir.sock",
      /^vhostd: Cannot listen on "no\/dir.sock": there is no directory "no\/"\n$/,
    ],
    // Lower numbers the runtime may have sockets of its own at.
    ["path=good.img,fd=999", /^vhostd: .*fd 999.*\n$/],
  ];
  for (const [keys, expected] of cases) {
    const first = "path=good.img,socket=first.sock,share";
    const { code, stdout, stderr } = await vhostd(
      ["serve", "--management=off", `--blk=${first}`, `--blk=${keys},share`],
      { cwd: directory.path },
    );
    assertEquals([code, stdout], [1, ""], stderr);
    assertMatch(stderr, expected);
    assertEquals(exists(directory.file("first.sock")), false);
  }
  assert(exists(directory.file("busy.sock")));
});

Deno.test("serve leaves none of what it made when it cannot start", async () => {
  using directory = TemporaryDirectory.make("serve");
  const cases: [string, RegExp][] = [
    ["nope.img", /^vhostd: Cannot serve "nope.img": /],
    ["--management=no/m.sock", /^vhostd: Cannot listen on "no\/m.sock": /],
  ];
  for (const [argument, expected] of cases) {
    const { code, stderr } = await vhostd(["serve", argument], {
      cwd: directory.path,
    });
    assertEquals(code, 1);
    assertMatch(stderr, expected);
    assertEquals([...Deno.readDirSync(directory.path)], [], argument);
  }
});

Deno.test("serve replaces stale sockets", async () => {
  using directory = TemporaryDirectory.make("serve");
  makeImage(directory.file("a.img"), 1 << 20);
  const args = [
    "serve",
    "--blk=path=a.img,socket=a.sock",
    "--management=m.sock",
  ];
  {
    await using child = startVhostd(args, { cwd: directory.path });
    await child.expect(READY, LIMIT, "stdout");
    await child.stop("SIGKILL");
  }
  assert(exists(directory.file("a.sock")));
  await using child = startVhostd(args, { cwd: directory.path });
  await child.expect(READY, LIMIT, "stdout");
  const { code, stderr } = await vhostd(
    ["serve", "--blk=path=a.img,socket=b.sock", "--management=m.sock"],
    { cwd: directory.path },
  );
  assertEquals(code, 1);
  assertEquals(
    stderr,
    'vhostd: Cannot listen on "m.sock": another server listens there already; choose another management socket with --management=PATH, or off\n',
  );
  assertEquals(exists(directory.file("b.sock")), false);
  assertEquals((await child.stop()).code, 0);
  assertThrows(
    () => Deno.lstatSync(directory.file("m.sock")),
    Deno.errors.NotFound,
  );
});

Deno.test("serve looks at image sizes again on SIGHUP", async () => {
  using directory = TemporaryDirectory.make("serve");
  const image = makeImage(directory.file("a.img"), 1 << 20);
  await using child = startVhostd(
    ["serve", "a.img", "--management=off", "--log-format=json"],
    { cwd: directory.path },
  );
  await child.expect(READY, LIMIT, "stdout");
  Deno.truncateSync(image, 2 << 20);
  child.signal("SIGHUP");
  await child.expect("capacity changed from 1048576 to 2097152", LIMIT);
  assertEquals((await child.stop()).code, 0);
  for (const line of child.stderr.text.trimEnd().split("\n")) {
    const { time, level, message } = JSON.parse(line);
    assert([time, level, message].every((each) => typeof each === "string"));
  }
});
