const visits = document.getElementById("visits");
visits.textContent = await (await fetch("/api/visit")).text();
