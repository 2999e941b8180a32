"""What `arboretum demo` needs: links to the fixture, which become files in a wheel."""
