import { KINDS, PACKED_KINDS, robOfServers } from "../processes/robbery.ts";

for (const kind of [...KINDS, ...PACKED_KINDS]) {
  kind.requirement.test(
    `killed 500 times under load, and the guest does not notice: ${kind.name}`,
    async () => {
      console.log(await robOfServers(kind, 500));
    },
  );
}
