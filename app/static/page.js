// The command is to be copied: show the address at which this page was found.
document.getElementById("origin").textContent = location.origin;
