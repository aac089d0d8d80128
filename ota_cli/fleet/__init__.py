"""Other ECUs: asked and told over OpenSSH, with their own `ota` at the other end."""
