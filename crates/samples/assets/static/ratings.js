// Lists the items, lets each be rated, and sends the ratings.
const site = document.body.dataset.site;
const state = document.getElementById("state");
const given = new Map();

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch("/api" + path, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return (await answer.json()).payload;
}

function row(item) {
  const line = document.createElement("li");
  const stars = document.createElement("input");
  stars.type = "number";
  stars.min = 0;
  stars.max = 5;
  stars.value = item.rating || 0;
  stars.setAttribute("aria-label", `stars for ${item.name}`);
  stars.addEventListener("change", () => given.set(item._id, Number(stars.value)));
  line.append(item.name, stars);
  return line;
}

async function load() {
  const found = await ask("/sites/" + encodeURIComponent(site));
  if (found) document.getElementById("site").textContent = found.longName;
  document.getElementById("items").replaceChildren(...(await ask("/items/rated")).map(row));
}

document.getElementById("send").addEventListener("click", async () => {
  const ratings = [...given].map(([id, rating]) => ({ id, rating }));
  try {
    await ask("/rate", { ratings });
    state.textContent = "Thank you.";
    given.clear();
    await load();
  } catch (error) {
    state.textContent = String(error);
  }
});

load().catch((error) => { state.textContent = String(error); });
