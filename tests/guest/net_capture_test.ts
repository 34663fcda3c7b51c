/**
 * Capture files of the network device, read by Wireshark.
 */

import { assertEquals } from "@std/assert";
import { NetBench } from "../../backends/net/testing/bench.ts";
import { packet } from "../../backends/net/testing/packets.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { tsharkOrReason } from "./rig/network.ts";

const { program, reason } = await tsharkOrReason();

/** Reads fields of all packets: one line each, separated by commas. */
async function fields(path: string, ...names: string[]): Promise<string[]> {
  const { command, args, env } = program!;
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args: [
      ...[...args, "-n", "-r", path, "-T", "fields", "-E", "separator=,"],
      ...names.flatMap((name) => ["-e", name]),
    ],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  assertEquals(code, 0, decoder.decode(stderr));
  return decoder.decode(stdout).trim().split("\n");
}

skipUnless(program !== null, reason).test(
  "tshark reads captures, also those that were put aside",
  async () => {
    using directory = TemporaryDirectory.make("pcap");
    const pcap = directory.file("net.pcapng");
    const kinds = [
      packet({ payload: 101 }),
      packet({ ipv6: true, payload: 0 }),
    ];
    {
      using bench = new NetBench({ backend: "echo", pcap, pcapSize: 65536 });
      bench.fill(2);
      bench.run();
      for (const { bytes } of kinds) bench.send(bytes);
      bench.send(packet({ payload: 60_000, udp: true }).bytes);
    }
    // What the echo gives back comes first: it is inside of the sending.
    const names = ["frame.len", "ip.src", "ipv6.src"];
    const lines = await fields(`${pcap}.1`, ...names, "tcp.srcport");
    assertEquals(lines.slice(0, 4), [
      "155,10.0.0.1,,1234",
      "155,10.0.0.1,,1234",
      "74,,fd00:1::,1234",
      "74,,fd00:1::,1234",
    ]);
    assertEquals(lines.length, 6);
    const directions = await fields(
      `${pcap}.1`,
      "frame.packet_flags_direction",
    );
    assertEquals(
      directions.slice(0, 2).map(Number).toSorted(),
      [1, 2],
    );
    assertEquals(await fields(pcap, "frame.len"), [""]);
  },
);
