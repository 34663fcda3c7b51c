/**
 * U-Boot's virtio_net driver: a TAP in a namespace, and passt.
 */

import { assert, assertEquals } from "@std/assert";
import { ServedNet } from "../protocol/net.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { vhostUserNet } from "./network.ts";
import { startUBoot } from "./rig/firmware.ts";
import { passtOrReason, wrapper } from "./rig/network.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const passt = await passtOrReason();

const KINDS = [
  { name: "modern", properties: ",disable-legacy=on" },
  { name: "legacy", properties: ",disable-modern=on,disable-legacy=off" },
];

if (inNamespace("U-Boot on a TAP", import.meta.url)) {
  const guests = skipUnless(reason === null, reason ?? "");
  for (const { name, properties } of KINDS) {
    guests.test(`U-Boot pings the host over a ${name} device`, async () => {
      await using net = await ServedNet.start({
        backend: "tap",
        ifname: "boot0",
      });
      ip("link", "set", "boot0", "up");
      ip("addr", "add", "10.9.0.1/24", "dev", "boot0");
      await using uboot = await startUBoot({
        devices: vhostUserNet(net.socket, { properties }),
      });
      await uboot.check("virtio scan");
      await uboot.check("setenv ipaddr 10.9.0.2");
      await uboot.check("setenv netmask 255.255.255.0");
      const output = await uboot.check("ping 10.9.0.1");
      assert(output.includes("host 10.9.0.1 is alive"), output);
      const { frames } = await net.device() as {
        frames: { badHeaders: unknown };
      };
      assertEquals(frames.badHeaders, {});
    });
  }
} else {
  const guests = skipUnless(
    reason === null && passt.passt !== null,
    reason ?? passt.reason,
  );
  for (const { name, properties } of KINDS) {
    guests.test(`U-Boot gets an address from passt over a ${name} device`, async () => {
      using directory = TemporaryDirectory.make("passt");
      await using net = await ServedNet.start({
        backend: "passt",
        passt: wrapper(directory, "passt", passt.passt!),
      });
      await using uboot = await startUBoot({
        devices: vhostUserNet(net.socket, { properties }),
      });
      await uboot.check("virtio scan");
      await uboot.check("setenv autoload no");
      const output = await uboot.check("dhcp", { timeout: 30_000 });
      assert(/DHCP client bound to address \d/.test(output), output);
    });
  }
}
