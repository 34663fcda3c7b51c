import { killNet } from "../processes/net_crash.ts";
import { KINDS, PACKED_KINDS, robOfServers } from "../processes/robbery.ts";

for (const kind of [...KINDS, ...PACKED_KINDS]) {
  kind.requirement.test(
    `killed 500 times under load, and the guest does not notice: ${kind.name}`,
    async () => {
      console.log(await robOfServers(kind, 500));
    },
  );
}

Deno.test("a network device with packed rings is killed 500 times", async () => {
  const options = { seed: 0x0dd_ba11, eventIdx: true, inOrder: false };
  console.log(await killNet(options, 500));
});
