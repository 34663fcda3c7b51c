/**
 * Two Linux guests on one switch.
 */

import { assertEquals } from "@std/assert";
import { killDevices, serveNet } from "../protocol/net_command.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { vhostUserNet } from "./network.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();

const guests = skipUnless(reason === null, reason ?? "");

guests.test("Linux: a switch is killed under TCP, which goes on", async () => {
  using directory = TemporaryDirectory.make("lan");
  const sockets = [directory.file("a.sock"), directory.file("b.sock")];
  await using server = await serveNet(
    sockets.map((socket) => `socket=${socket},backend=switch`),
  );
  const start = async (index: number) => {
    const guest = await startLinuxGuest({
      devices: vhostUserNet(sockets[index], {
        mac: `52:54:00:12:34:5${index}`,
        reconnect: 50,
      }),
    });
    await guest.check("ip link set eth0 up");
    await guest.check(`ip addr add 10.8.0.${index + 1}/24 dev eth0`);
    return guest;
  };
  await using one = await start(0);
  await using two = await start(1);
  await one.check("dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null");
  // Not the console: what is typed there during the transfer is not for nc.
  await two.check(
    "mkfifo /tmp/silent; " +
      "(nc -l -p 9 <> /tmp/silent > /tmp/got; touch /tmp/finished) & true",
  );
  const wait = (condition: string) =>
    `i=0; while ! ${condition} && [ $i -lt 300 ]; do sleep 0.1; ` +
    "i=$((i+1)); done; " + condition;
  await two.check(wait("netstat -ltn | grep -q ':9 '"), 60_000);
  // In pieces, so that it takes longer than the kills.
  await one.check(
    "(i=0; while [ $i -lt 16 ]; do dd if=/tmp/data bs=1M skip=$i count=1 " +
      "2>/dev/null; sleep 0.2; i=$((i+1)); done | nc 10.8.0.2 9) & true",
  );
  let got = 0;
  for (let kill = 0; kill < 3; kill++) {
    const more = `[ $(wc -c < /tmp/got) -gt ${got} ]`;
    await two.check(wait(more), 60_000);
    await killDevices(server);
    got = Number(await two.check("wc -c < /tmp/got"));
  }
  await two.check(wait("[ -e /tmp/finished ]"), 60_000);
  assertEquals(
    await two.check("sha256sum < /tmp/got"),
    await one.check("sha256sum < /tmp/data"),
  );
  assertEquals([await one.powerOff(), await two.powerOff()], [0, 0]);
});

guests.test(
  "Linux: guest to guest over a switch, both ways",
  async () => {
    using directory = TemporaryDirectory.make("lan");
    const sockets = [directory.file("a.sock"), directory.file("b.sock")];
    await using server = ChildProcess.start(Deno.execPath(), {
      name: "vhostd",
      args: [
        ...COMMAND_ARGUMENTS,
        ...["serve", "--management=off"],
        ...sockets.map((socket) =>
          `--net=socket=${socket},backend=switch,process=lan`
        ),
      ],
    });
    for (const socket of sockets) await waitForListener(socket, server);
    const start = async (index: number) => {
      const guest = await startLinuxGuest({
        devices: vhostUserNet(sockets[index], {
          mac: `52:54:00:12:34:5${index}`,
        }),
      });
      await guest.check("ip link set eth0 up");
      await guest.check(`ip addr add 10.8.0.${index + 1}/24 dev eth0`);
      return guest;
    };
    await using one = await start(0);
    await using two = await start(1);
    await two.check("ping -c 3 -W 5 10.8.0.1");
    await one.check("ping -c 1 -W 5 -s 20000 10.8.0.2");
    for (
      const [from, to, address] of [
        [one, two, "10.8.0.2"],
        [two, one, "10.8.0.1"],
      ] as const
    ) {
      await from.check(
        "dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null",
      );
      await to.check("(nc -l -p 9 > /tmp/got; touch /tmp/finished) & true");
      await to.check(
        "i=0; while ! netstat -ltn | grep -q ':9 ' && [ $i -lt 100 ]; do " +
          "sleep 0.1; i=$((i+1)); done",
      );
      await from.check(`nc ${address} 9 < /tmp/data`, 60_000);
      await to.check(
        "i=0; while [ ! -e /tmp/finished ] && [ $i -lt 300 ]; do " +
          "sleep 0.1; i=$((i+1)); done; rm /tmp/finished",
        60_000,
      );
      assertEquals(
        await to.check("sha256sum < /tmp/got"),
        await from.check("sha256sum < /tmp/data"),
      );
    }
    assertEquals([await one.powerOff(), await two.powerOff()], [0, 0]);
  },
);
