import { assert, assertEquals } from "@std/assert";
import { dupFd, isCloexec, setCloexec } from "../../sys/fd.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { withDeadline } from "../../tests/support/deadline.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { Bench, LIMIT } from "./testing/bench.ts";

/** A connected front-end, and the descriptor for the supervisor. */
function connectedPair(): [FrontEnd, number] {
  const [near, far] = UnixSocket.pair();
  using _far = far;
  return [FrontEnd.connect(near), dupFd(far.fd)];
}

Deno.test("a connected socket is served until its front-end leaves", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  await bench.start([bench.device("a", { fd })]);
  await frontEnd.handshake();
  assert((await bench.facts("a")).connected);
  frontEnd.close();
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.supervisor.lost, false);
  assertEquals(bench.logged("died"), []);
});

Deno.test("a front-end that breaks the protocol is no clean end", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  await bench.start([bench.device("a", { fd })]);
  await frontEnd.sendRaw(new Uint8Array(12).fill(0xff));
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.supervisor.lost, true);
  assertEquals(bench.logged("died"), []);
  frontEnd.close();
});

Deno.test("the connection is lost with the process that serves it", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  const pool = { process: "pool" };
  await bench.start([
    bench.device("a", { fd, ...pool }),
    bench.device("b", pool),
  ]);
  await frontEnd.handshake();
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await withDeadline(frontEnd.closedByPeer(), LIMIT, "the hang-up");
  frontEnd.close();
  // The other device of the process goes on, without this one.
  await bench.until("b", "running", 1);
  assertEquals(bench.supervisor.lost, true);
  const { pid } = await bench.facts("b");
  const command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0");
  assertEquals(command.at(-2), "b");
});

Deno.test("it ends when the last connection is lost", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  await bench.start([bench.device("a", { fd })]);
  await frontEnd.handshake();
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.supervisor.lost, true);
  assertEquals((await bench.facts("a")).state, "failed");
  assertEquals(bench.logged("; its front-end cannot come back").length, 1);
  frontEnd.close();
});

Deno.test("an inherited socket that listens outlives the processes", async () => {
  await using bench = new Bench();
  using listener = UnixListener.listen(bench.directory.file("own.sock"));
  const fd = dupFd(listener.fd);
  setCloexec(fd, false);
  await bench.start([bench.device("a", { fd })]);
  assert(isCloexec(fd));
  for (let i = 0; i < 2; i++) {
    const frontEnd = FrontEnd.connect(listener.path);
    await frontEnd.handshake();
    frontEnd.close();
    Deno.kill((await bench.facts("a")).pid, "SIGKILL");
    await bench.until("a", "running", i + 1);
  }
  assert(await bench.supervisor.stop());
  assert(Deno.lstatSync(listener.path).isSocket);
});
