import createClient from "openapi-fetch";
import type { components, paths } from "./genserve.js";

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] });
const png = { "Content-Type": "image/png" };
// Bytes are `string` in the generated types, and are sent and received as they are.
const raw = (body: unknown) => body as BodyInit;

function check(right: boolean, found: unknown): asserts right {
  if (!right) throw new Error(JSON.stringify(found));
}

const seed = Number.MAX_SAFE_INTEGER;
const query = { label: "7", seed, format: "json" } as const;
const generated = await client.GET("/generate", { params: { query } });
check(!generated.error, generated.error);
const [item] = (generated.data as components["schemas"]["ImageList"]).items;
check(item.seed === seed && item.label === "7", item);
const file = Uint8Array.from(atob(item.image), (c) => c.charCodeAt(0)) as unknown as string;

const verified = await client.POST("/verify", { body: file, bodySerializer: raw, headers: png });
check(verified.data?.verdict === "same", verified);

const encoded = await client.POST("/encode", { body: file, bodySerializer: raw, headers: png });
check(!encoded.error, encoded.error);
const z = encoded.data.items.map((posterior) => posterior.mu);
const decoded = await client.POST("/decode", {
  body: { z },
  headers: { Accept: "application/x-npy" },
  parseAs: "arrayBuffer",
});
check(!decoded.error, decoded.error);
check(new Uint8Array(decoded.data)[1] === 78, "no npy: \x93NUMPY is expected");

const refused = await client.GET("/generate", { params: { query: { label: "12" } } });
check(refused.error?.title === "A parameter is not acceptable", refused);
console.log("made, verified, encoded and decoded");
