/**
 * What QEMU does when the process of a balloon dies. Its generic vhost-user
 * device goes on without a back-end, cannot connect again, and aborts when the
 * driver starts it the next time. The disk beside it shows that the processes of
 * other devices may die.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Server } from "../processes/server.ts";
import { vhostUserBalloon } from "./balloons.ts";
import { vhostUserBlk } from "./disks.ts";
import { RigError } from "./rig/error.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { startQemu } from "./rig/qemu.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const READ = "dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct 2>&1";

guests.test("a balloon that dies is lost, and the next reset aborts QEMU; a disk comes back", async () => {
  using directory = TemporaryDirectory.make("death");
  const socket = directory.file("ball.sock");
  await using server = await Server.start({
    directory,
    disks: { disk: "" },
    args: [`--balloon=id=ball,socket=${socket}`],
  });
  await using guest = await startLinuxGuest({
    reboot: true,
    devices: [
      ...vhostUserBalloon(socket),
      ...vhostUserBlk(server.socket("disk"), "", 50),
    ],
  });
  await server.call("balloon.set", { size: "50%" });
  await waitUntil(async () => {
    const status = await server.call("balloon.status", {});
    return (status as { progress: number }).progress === 1;
  }, { what: "the balloon to reach its target", timeout: 60_000 });

  Deno.kill(await server.pid("disk"), "SIGKILL");
  await server.until("disk", "running", 1);
  await guest.check(READ);
  assertEquals((await server.status("ball")).restarts, 0);

  const { qemu } = guest;
  const lost = await server.pid("ball");
  Deno.kill(lost, "SIGKILL");
  await waitUntil(() => qemu.messages.includes("end-of-file"), {
    what: "QEMU to see the end of the balloon",
  });
  await server.until("ball", "running", 1);
  await guest.check(READ);
  assert(!qemu.process.ended, qemu.messages);
  assert(!(await server.status("ball")).connected, "QEMU connected again");
  await qemu.console.sendLine("reboot -f");
  const { signal } = await qemu.process.wait(60_000);
  assertEquals(signal, "SIGABRT", qemu.messages);
});

guests.test("QEMU refuses a balloon that it could connect to again", async () => {
  using directory = TemporaryDirectory.make("death");
  const socket = directory.file("ball.sock");
  await using _server = await Server.start({
    directory,
    disks: {},
    args: [`--balloon=id=ball,socket=${socket}`],
  });
  const devices = vhostUserBalloon(socket).map((text) =>
    text.startsWith("socket,") ? `${text},reconnect-ms=100` : text
  );
  const error = await assertRejects(() => startQemu({ devices }), RigError);
  assertMatch(error.message, /Protocol error/);
});
