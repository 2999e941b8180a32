"""The backend port and its adapters."""
