/**
 * Scenarios: the network device, with another guest on the same switch.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { ADDRESS, type Context, type Scenario } from "./context.ts";
import { digestOf, random } from "./disk.ts";
import type { Guest } from "./guest.ts";

const PORT = 9000;

/** Both have their addresses, and the MTU of a plain Ethernet. */
export async function addressed({ guest, peer }: Context): Promise<void> {
  for (const [one, address] of [[guest, ADDRESS.guest], [peer, ADDRESS.peer]]) {
    const { system } = one as Guest;
    await (one as Guest).check(system.mtu(1500));
    await (one as Guest).check(system.address(system.net, address as string));
  }
}

/** Each hears the other, of packets of so many bytes. */
export async function pingBoth(
  { guest, peer }: Context,
  sizes: readonly number[],
): Promise<void> {
  const ping = (one: Guest, host: string, size: number) =>
    one.until(one.system.ping(host, size), 20);
  for (const size of sizes) {
    await ping(guest, ADDRESS.peer, size);
    await ping(peer, ADDRESS.guest, size);
  }
}

/** Sends a file and compares what arrives. */
async function transfer(
  from: Guest,
  to: Guest,
  host: string,
  mib: number,
): Promise<void> {
  const sent = `${from.work}/sent`, got = `${to.work}/got`;
  await from.check(random(sent, mib));
  await to.check(`rm -f ${got} ${to.work}/finished`);
  await to.check(
    `(${to.system.receive(PORT, got)}; echo > ${to.work}/finished) ` +
      "> /dev/null 2>&1 &",
  );
  // Refused until the other side listens.
  await from.until(from.system.send(host, PORT, sent), 60);
  await to.until(`[ -e ${to.work}/finished ]`, 120);
  assertEquals(await digestOf(to, got), await digestOf(from, sent));
  await from.check(`rm ${sent}`);
  await to.check(`rm ${got} ${to.work}/finished`);
}

/** TCP in both directions. */
export async function transferBoth(
  { guest, peer }: Context,
  mib: number,
): Promise<void> {
  await transfer(guest, peer, ADDRESS.peer, mib);
  await transfer(peer, guest, ADDRESS.guest, mib);
}

/** Scenarios about the network. */
export const NETWORK: readonly Scenario[] = [
  {
    name: "the interface goes up and down 20 times",
    quick: true,
    subjects: ["interface", "ping"],
    async run(context) {
      const { guest } = context;
      await addressed(context);
      for (let i = 0; i < 20; i++) {
        await guest.check(guest.system.link("down"));
        await guest.check(guest.system.link("up"));
      }
      await addressed(context);
      await pingBoth(context, [56]);
    },
  },
  {
    name: "pings, whole and in fragments",
    subjects: ["interface", "ping"],
    async run(context) {
      await addressed(context);
      await pingBoth(context, [56, 1400, 20_000]);
    },
  },
  {
    name: "TCP both ways, with checksums",
    quick: true,
    subjects: ["interface", "tcp", "checksum"],
    async run(context) {
      await addressed(context);
      await transferBoth(context, 16);
    },
  },
  {
    name: "a VLAN",
    subjects: ["vlan", "ping"],
    async run(context) {
      const { guest, peer, skip } = context;
      await addressed(context);
      const ID = 7;
      const { output, status } = await guest.run(
        guest.system.vlan(ID).command,
      );
      if (status !== 0) {
        await skip("the VLAN", `this guest cannot make one: ${output}`);
        return;
      }
      await peer.check(peer.system.vlan(ID).command);
      const hosts = ["10.9.0.1", "10.9.0.2"];
      for (const [i, one] of [guest, peer].entries()) {
        await one.check(
          one.system.address(one.system.vlan(ID).name, hosts[i]),
        );
      }
      for (const size of [56, 1400, 8000]) {
        await guest.until(guest.system.ping(hosts[1], size), 20);
        await peer.until(peer.system.ping(hosts[0], size), 20);
      }
      for (const one of [guest, peer]) {
        await one.check(one.system.removeVlan(ID));
      }
    },
  },
  {
    name: "offloads are turned off and on",
    subjects: ["offloads", "interface", "tcp", "checksum"],
    async run(context) {
      const { guest } = context;
      await addressed(context);
      for (const command of guest.system.offloads(false)) {
        await guest.check(command);
        await transferBoth(context, 2);
      }
      for (const command of guest.system.offloads(true)) {
        await guest.check(command);
      }
      await transferBoth(context, 4);
    },
  },
  {
    name: "an MTU of 9000",
    quick: true,
    subjects: ["interface", "ping", "tcp", "checksum"],
    async run(context) {
      await addressed(context);
      for (const one of [context.guest, context.peer]) {
        await one.check(one.system.mtu(9000));
      }
      await pingBoth(context, [8972]);
      await transferBoth(context, 4);
      await addressed(context);
      await pingBoth(context, [56]);
    },
  },
];
