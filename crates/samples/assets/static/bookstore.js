document.getElementById("loaded").textContent = "Loaded " + new Date().toLocaleTimeString();
