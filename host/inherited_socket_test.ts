import { assert, assertEquals, assertMatch } from "@std/assert";
import { dupFd, OwnedFd, setCloexec } from "../sys/fd.ts";
import { libc } from "../sys/libc.ts";
import { UnixListener, UnixSocket } from "../sys/unix_socket.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { FrontEnd } from "../vhost/testing/front_end.ts";
import { startVhostd } from "./cli/testing/vhostd.ts";
import { adoptSocket } from "./inherited_socket.ts";

Deno.test("adoptSocket() tells listening sockets from connected ones", () => {
  using directory = TemporaryDirectory.make("adopt");
  using listener = UnixListener.listen(directory.file("s"));
  using listening = adoptSocket(dupFd(listener.fd));
  assert(listening instanceof UnixListener);
  const [ours, theirs] = UnixSocket.pair();
  using _ours = ours, _theirs = theirs;
  using connected = adoptSocket(dupFd(ours.fd));
  assert(connected instanceof UnixSocket);
});

const AF_UNIX = 1, SOCK_STREAM = 1;

/** The two ways to serve the disk of a descriptor. */
const COMMANDS: [name: string, args: (fd: number) => string[]][] = [
  ["blk --fd", (fd) => ["blk", `--fd=${fd}`, "--blk-file=a.img"]],
  [
    "serve fd=",
    (fd) => ["serve", "--management=off", `--blk=path=a.img,fd=${fd}`],
  ],
];

/** Runs a command that a socket is inherited by; how it ended, and its log. */
async function run(
  args: string[],
  inherited: Disposable & { readonly fd: number } | null,
  meanwhile: () => Promise<void> = async () => {},
): Promise<[code: number, log: string]> {
  using directory = TemporaryDirectory.make("inherit");
  Deno.writeFileSync(directory.file("a.img"), new Uint8Array(1 << 20));
  if (inherited !== null) setCloexec(inherited.fd, false);
  await using child = startVhostd(args, { cwd: directory.path });
  inherited?.[Symbol.dispose]();
  await meanwhile();
  const { code } = await child.wait(20_000);
  return [code, child.stderr.text];
}

for (const [name, args] of COMMANDS) {
  Deno.test(`${name}: a front-end that leaves is a clean end, told once`, async () => {
    const [ours, theirs] = UnixSocket.pair();
    const [code, log] = await run(args(theirs.fd), theirs, async () => {
      const frontEnd = FrontEnd.connect(ours);
      await frontEnd.handshake();
      frontEnd.close();
    });
    assertEquals(code, 0);
    assertEquals(log.match(/Stopping: .*/g), [
      "Stopping: every front-end left",
    ]);
  });

  Deno.test(`${name}: a front-end that breaks the protocol is a failure`, async () => {
    const [ours, theirs] = UnixSocket.pair();
    using frontEnd = FrontEnd.connect(ours);
    const [code, log] = await run(args(theirs.fd), theirs, async () => {
      await frontEnd.sendRaw(new Uint8Array(12).fill(0xff));
      await frontEnd.closedByPeer();
    });
    assertEquals(code, 1);
    assertEquals(log.match(/connection dropped/g)?.length, 1);
    assertEquals(log.match(/Stopping: /g)?.length, 1);
  });

  Deno.test(`${name}: a descriptor that is no use is refused in one line`, async () => {
    assertEquals(await run(args(99), null), [
      1,
      "vhostd: Cannot use fd 99: no descriptor 99 was inherited\n",
    ]);
    const idle = new OwnedFd(libc().socket(AF_UNIX, SOCK_STREAM, 0));
    const [code, log] = await run(args(idle.fd), idle);
    assertEquals(code, 1);
    assertMatch(
      log,
      /^vhostd: Cannot use fd \d+: the socket neither listens nor is connected\n$/,
    );
  });
}
