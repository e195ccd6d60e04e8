"""What every package uses: options, command line, atomic files, machine, operation counts. Imports no other package."""
