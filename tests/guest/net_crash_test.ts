/**
 * The process of a TAP is killed under the traffic of a Linux guest.
 */

import { assertEquals } from "@std/assert";
import { killDevices, serveNet } from "../protocol/net_command.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Sink, vhostUserNet } from "./network.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const HOST = "10.9.0.1", GUEST = "10.9.0.2";
const MIB = 1 << 20;
const KILLS = 4;

// Before the namespace, which reaches no mirror.
const reason = await prepareOrReason();

if (inNamespace("the process of a TAP killed under a guest", import.meta.url)) {
  const guests = skipUnless(reason === null, reason ?? "");

  // QEMU knows no position of a packed ring but the first, each time.
  for (
    const [layout, properties] of [["split", ""], ["packed", ",packed=on"]]
  ) {
    guests.test(`Linux, ${layout} rings: a TAP killed ${KILLS} times under TCP both ways, which goes on`, async () => {
      using directory = TemporaryDirectory.make("tap");
      const socket = directory.file("net.sock");
      // It stays when the process is gone, with its address.
      ip("tuntap", "add", "crash0", "mode", "tap", "vnet_hdr");
      using interfaces = new DisposableStack();
      interfaces.defer(() => ip("link", "delete", "crash0"));
      ip("addr", "add", `${HOST}/24`, "dev", "crash0");
      ip("link", "set", "crash0", "up");
      await using server = await serveNet([
        `socket=${socket},backend=tap,ifname=crash0`,
      ]);
      await using sink = new Sink(HOST, { echo: true });
      await using guest = await startLinuxGuest({
        devices: vhostUserNet(socket, { reconnect: 50, properties }),
      });
      const bits = "cut -c35 /sys/bus/virtio/devices/virtio0/features";
      assertEquals(await guest.check(bits), layout === "packed" ? "1" : "0");
      await guest.check("ip link set eth0 up");
      await guest.check(`ip addr add ${GUEST}/24 dev eth0`);
      await guest.check(
        "dd if=/dev/urandom of=/tmp/data bs=1M count=2 2>/dev/null",
      );
      // The same again and again, until it is told that this is enough.
      await guest.check(
        "(i=0; while [ ! -e /tmp/stop ]; do cat /tmp/data; i=$((i+1)); done; " +
          "echo $i > /tmp/count) | " +
          `(nc ${HOST} ${sink.port} | sha256sum > /tmp/echoed; ` +
          "touch /tmp/finished) & true",
      );
      const goesOn = async (state: string) => {
        const before = sink.bytes;
        await waitUntil(() => sink.bytes > before + MIB, {
          what: `traffic ${state}`,
          timeout: 60_000,
        });
      };
      await goesOn("at first");
      for (let kill = 1; kill <= KILLS; kill++) {
        await killDevices(server);
        await goesOn(`after kill ${kill}`);
      }
      await guest.check("touch /tmp/stop");
      await guest.check(
        "i=0; while [ ! -e /tmp/finished ] && [ $i -lt 300 ]; do sleep 0.1; " +
          "i=$((i+1)); done; [ -e /tmp/finished ]",
        60_000,
      );
      const sent = await guest.check(
        "i=0; while [ $i -lt $(cat /tmp/count) ]; do cat /tmp/data; " +
          "i=$((i+1)); done | sha256sum",
        60_000,
      );
      assertEquals(await guest.check("cat /tmp/echoed"), sent);
      // Of one connection.
      assertEquals(sink.digests, [sent.split(" ")[0]]);
      assertEquals(sink.peers, [GUEST]);
      assertEquals(await guest.powerOff(), 0);
      assertEquals((await server.stop("SIGTERM")).code, 0);
    });
  }
}
