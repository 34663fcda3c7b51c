/**
 * iPXE's virtio-net driver: HTTP over a TAP, legacy and modern.
 */

import { assert, assertEquals } from "@std/assert";
import { vhostUserNet } from "../guest/network.ts";
import { findIpxe, startIpxe } from "../guest/rig/ipxe.ts";
import { RigError } from "../guest/rig/error.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { ServedNet } from "../protocol/net.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { skipUnless } from "../support/skip.ts";

const HOST = "10.9.0.1", GUEST = "10.9.0.2";
/** Bytes of the file that is only fetched. */
const SIZE = 8 << 20;

const KINDS = [
  { name: "modern", properties: ",disable-legacy=on" },
  { name: "legacy", properties: ",disable-modern=on,disable-legacy=off" },
];

// Before the namespace, which reaches no mirror.
const { roms, reason } = await romsOrReason();

async function romsOrReason(): Promise<{ roms: string; reason: string }> {
  const reason = await prepareOrReason();
  if (reason !== null) return { roms: "", reason };
  try {
    return { roms: await findIpxe(), reason: "" };
  } catch (error) {
    if (!(error instanceof RigError && error.kind === "platform")) throw error;
    return { roms: "", reason: error.message };
  }
}

/** A script that says a word. */
function script(word: string): string {
  return `#!ipxe\necho The word is ${word}\n`;
}

if (inNamespace("iPXE on a TAP", import.meta.url)) {
  const guests = skipUnless(roms !== "", reason);

  for (const { name, properties } of KINDS) {
    guests.test(`iPXE fetches over HTTP, ${name}`, async () => {
      await using net = await ServedNet.start({
        backend: "tap",
        ifname: "pxe0",
      });
      ip("link", "set", "pxe0", "up");
      ip("addr", "add", `${HOST}/24`, "dev", "pxe0");
      const word = crypto.randomUUID();
      const fetched: string[] = [];
      await using server = Deno.serve(
        { hostname: HOST, port: 0, onListen: () => {} },
        ({ url }) => {
          const { pathname } = new URL(url);
          fetched.push(pathname);
          return new Response(
            pathname === "/script" ? script(word) : new Uint8Array(SIZE),
          );
        },
      );
      const base = `http://${HOST}:${server.addr.port}`;
      const [chardev, ...rest] = vhostUserNet(net.socket, { properties });
      const devices = rest.map((word) =>
        word.replace("romfile=", "bootindex=1")
      );
      await using ipxe = await startIpxe(roms, [chardev, ...devices]);
      const { console } = ipxe;
      const run = async (command: string, expected: RegExp) => {
        await console.sendLine(command);
        await console.expect(expected, { timeout: 120_000 });
        await console.waitForPrompt({ timeout: 20_000 });
      };
      await run(`set net0/ip ${GUEST}`, /\n/);
      await run("set net0/netmask 255.255.255.0", /\n/);
      await run("ifopen net0", /\n/);
      await run(`imgfetch -n data ${base}/data`, / ok/);
      await run("imgstat", new RegExp(`data : ${SIZE} bytes`));
      await run("imgfree data", /\n/);
      await console.sendLine(`chain ${base}/script`);
      await console.expect(`The word is ${word}`, { timeout: 120_000 });
      assertEquals(fetched, ["/data", "/script"]);
      const { frames, tap } = await net.device() as {
        frames: Record<string, number>;
        tap: Record<string, number>;
      };
      assert(frames.rxBytes > SIZE, `${frames.rxBytes} bytes`);
      assertEquals(frames.badHeaders as unknown, {});
      assertEquals([tap.refused, tap.full], [0, 0]);
    });
  }
}
