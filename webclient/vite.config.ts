import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vite";

// Where `npm run dev` finds a running gateway.
const gateway = process.env.GATEWAY_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [tailwindcss(), svelte()],
  build: {
    outDir: "../gateway/static",
    emptyOutDir: true,
    // The gateway's Content-Security-Policy allows files of its own origin only: nothing is inlined as a data: URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/socket.io": { target: gateway, ws: true },
      "/username": { target: gateway, ws: true },
    },
  },
});
